// The BERT line (arXiv:1810.04805): post-norm encoders with learned positions. One recipe, driven by the configuration,
// runs BERT, RoBERTa (arXiv:1907.11692) with CamemBERT and XLM-RoBERTa, and DistilBERT (arXiv:1910.01108), each bare or
// with a head: pooler, sequence classifier, token classifier, masked language model. The config maps are in
// bert_config.cc.
#include "arch/families/bert_config.h"
#include "arch/families/families.h"
#include "arch/networks/recipe.h"
#include "arch/weights/table_builder.h"
#include "arch/weights/weight_loader.h"

namespace ft::arch {
namespace {

// What a format and model type call the encoder's weights; null: it has none such.
struct names {
  const char *words, *positions, *types, *embedding_norm;
  const char* layer;
  const char *query, *key, *value, *output, *attention_norm;
  const char *up, *down, *output_norm;
};

constexpr names bert_names = {
    .words = "embeddings.word_embeddings",
    .positions = "embeddings.position_embeddings",
    .types = "embeddings.token_type_embeddings",
    .embedding_norm = "embeddings.LayerNorm",
    .layer = "encoder.layer.",
    .query = "attention.self.query",
    .key = "attention.self.key",
    .value = "attention.self.value",
    .output = "attention.output.dense",
    .attention_norm = "attention.output.LayerNorm",
    .up = "intermediate.dense",
    .down = "output.dense",
    .output_norm = "output.LayerNorm",
};

constexpr names distilbert_names = {
    .words = "embeddings.word_embeddings",
    .positions = "embeddings.position_embeddings",
    .types = nullptr,
    .embedding_norm = "embeddings.LayerNorm",
    .layer = "transformer.layer.",
    .query = "attention.q_lin",
    .key = "attention.k_lin",
    .value = "attention.v_lin",
    .output = "attention.out_lin",
    .attention_norm = "sa_layer_norm",
    .up = "ffn.lin1",
    .down = "ffn.lin2",
    .output_norm = "output_layer_norm",
};

constexpr names gguf_names = {
    .words = "token_embd",
    .positions = "position_embd",
    .types = "token_types",
    .embedding_norm = "token_embd_norm",
    .layer = "blk.",
    .query = "attn_q",
    .key = "attn_k",
    .value = "attn_v",
    .output = "attn_output",
    .attention_norm = "attn_output_norm",
    .up = "ffn_up",
    .down = "ffn_down",
    .output_norm = "layer_output_norm",
};

void add_layer(table_builder& t, const names& n, const model_config& c) {
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  t.matrix("attention.query", n.query, hidden, hidden, column, true);
  t.matrix("attention.key", n.key, hidden, hidden, column, true);
  t.matrix("attention.value", n.value, hidden, hidden, column, true);
  t.matrix("attention.output", n.output, hidden, hidden, row, true);
  t.layer_norm("attention_norm", n.attention_norm, hidden);
  t.matrix("feed_forward.up", n.up, c.mlp.intermediate_size, hidden, column, true);
  t.matrix("feed_forward.down", n.down, hidden, c.mlp.intermediate_size, row, true);
  t.layer_norm("feed_forward_norm", n.output_norm, hidden);
}

// A head's matrix: small, and its rounding is the answer's, so it is never quantised.
void add_dense(table_builder& t, const char* ours, const char* theirs, int64_t out, int64_t in) {
  t.matrix(ours, theirs, out, in, shard_axis::none, true).may_quantise = false;
}

void add_masked_lm(table_builder& t, const model_config& c) {
  const bool roberta = bert_prefix(c.model_type) == "roberta.", distil = c.model_type == "distilbert";
  const auto named = [&](const char* in_bert, const char* in_roberta, const char* in_distilbert) {
    return distil ? in_distilbert : roberta ? in_roberta : in_bert;
  };
  add_dense(t, "head.dense", named("cls.predictions.transform.dense", "lm_head.dense", "vocab_transform"),
            c.hidden_size, c.hidden_size);
  t.layer_norm("head.norm", named("cls.predictions.transform.LayerNorm", "lm_head.layer_norm", "vocab_layer_norm"),
               c.hidden_size);
  const std::string decoder = named("cls.predictions.decoder", "lm_head.decoder", "vocab_projector");
  if (!c.embedding.tied) t.matrix("output", decoder, c.tokens.vocab_size, c.hidden_size, shard_axis::vocabulary, false);
  weight_spec& bias = t.add("output", ".bias", decoder, ".bias", {c.tokens.vocab_size}, shard_axis::vocabulary);
  if (!distil) bias.sources.insert(bias.sources.begin(), roberta ? "lm_head.bias" : "cls.predictions.bias");
}

void add_head(table_builder& t, const model_config& c) {
  switch (c.head.kind) {
    case head_kind::masked_lm:
      add_masked_lm(t, c);
      break;
    case head_kind::token_classification:
      add_dense(t, "output", "classifier", c.head.num_labels, c.hidden_size);
      break;
    case head_kind::sequence_classification:
      if (c.model_type == "bert") {  // reads the pooler
        add_dense(t, "output", "classifier", c.head.num_labels, c.hidden_size);
      } else if (c.model_type == "distilbert") {
        add_dense(t, "head.dense", "pre_classifier", c.hidden_size, c.hidden_size);
        add_dense(t, "output", "classifier", c.head.num_labels, c.hidden_size);
      } else {
        add_dense(t, "head.dense", "classifier.dense", c.hidden_size, c.hidden_size);
        add_dense(t, "output", "classifier.out_proj", c.head.num_labels, c.hidden_size);
      }
      break;
    case head_kind::causal_lm:
    case head_kind::none:
      break;
  }
}

// FasterTransformer's files of the layers, [in, out]; the other weights are read from the original model beside them.
void use_faster_transformer_files(weight_table& table) {
  for (weight_spec& spec : table) {
    if (!spec.name.starts_with("layers.")) continue;
    const std::string name = spec.sources.back().pieces.front();  // without a prefix
    const bool old_norm = name.ends_with(".gamma") || name.ends_with(".beta");
    const std::string theirs = old_norm ? spec.sources.front().pieces.front().substr(5) : name;  // after "bert."
    spec.sources = {{"model." + theirs, {.transposed = true, .flat = true}}};
  }
}

weight_table bert_weights(const model_config& c, io::checkpoint_format format) {
  const bool gguf = format == io::checkpoint_format::gguf;
  const names& n = gguf ? gguf_names : c.model_type == "distilbert" ? distilbert_names : bert_names;
  // Saved with a head, or without one as sentence-transformers does.
  const std::vector<std::string> prefixes = {bert_prefix(c.model_type), ""};
  table_builder t(gguf ? std::vector<std::string>{""} : prefixes);
  t.matrix("embedding", n.words, c.tokens.vocab_size, c.hidden_size, shard_axis::vocabulary, false);
  t.lookup("positions", n.positions, c.positions.max + c.positions.offset, c.hidden_size);
  if (c.tokens.type_vocab_size) t.lookup("token_types", n.types, c.tokens.type_vocab_size, c.hidden_size);
  t.layer_norm("embedding_norm", n.embedding_norm, c.hidden_size);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat(n.layer, layer, "."));
    add_layer(t, n, c);
  }
  t.enter("", "");
  if (c.head.has_pooler) add_dense(t, "pooler", "pooler.dense", c.hidden_size, c.hidden_size);
  table_builder head({""});
  add_head(head, c);
  weight_table table = t.take();
  if (format == io::checkpoint_format::faster_transformer) use_faster_transformer_files(table);
  for (weight_spec& spec : head.take()) table.push_back(std::move(spec));
  return table;
}

// What stands between the encoder and the logits, by the head's kind. A sequence classifier of BERT's own reads the
// pooler's matrix, others one of their own.
head load_head(weight_loader& load, const model_config& config, const io::rank_share& share,
               const std::shared_ptr<const nn::embedding>& words, const std::shared_ptr<const nn::linear>& pooler) {
  const auto dense = [&] { return std::make_shared<nn::linear>(load.linear({"head.dense"})); };
  if (config.head.kind == head_kind::masked_lm) {
    head h = load_language_head(load, config, share, words);
    h.dense = dense();
    h.activation = config.mlp.activation;
    h.norm = load.norm("head.norm", config);
    return h;
  }
  head h;
  if (config.head.kind == head_kind::none) return h;
  if (config.head.kind == head_kind::sequence_classification) {
    h.dense = config.model_type == "bert" ? pooler : dense();
    h.activation = config.head.classifier_activation;
  }
  h.output = load.linear({"output"});
  return h;
}

std::unique_ptr<network> build_bert(const model_config& config, const weight_match& match,
                                    const build_options& options) {
  weight_loader load(match, options);
  const io::rank_share& share = options.share;
  network_parts parts;
  const std::shared_ptr<const nn::embedding> words = load_words(load, config, share);
  if (is_first_stage(share)) {
    parts.main.embed = {.words = words, .positions = load_positions(load, "positions", config.positions)};
    if (config.tokens.type_vocab_size) parts.main.embed.token_types = load.embedding("token_types");
    parts.main.embed.norm = load.norm("embedding_norm", config);
  }
  stack_config layers = config;
  layers.block = block_kind::post_norm;
  parts.main.layers = stack(load, layers, {}, share);
  if (is_last_stage(share)) {
    if (config.head.has_pooler) parts.pooler = std::make_shared<nn::linear>(load.linear({"pooler"}));
    parts.head = load_head(load, config, share, words, parts.pooler);
  }
  parts.weight_bytes = load.bytes();
  return std::make_unique<network>(config, share, std::move(parts));
}

}  // namespace

family bert_family() {
  return {.name = "bert",
          .hugging_face = {"bert", "roberta", "xlm-roberta", "camembert", "distilbert"},
          .gguf = {"bert"},
          .sections = {"bert"},
          .config = bert_config,
          .weights = bert_weights,
          .build = build_bert};
}

}  // namespace ft::arch
