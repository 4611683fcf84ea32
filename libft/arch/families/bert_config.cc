// Reads the configuration of a model of the BERT line from Hugging Face's config.json or GGUF metadata.
#include "arch/families/bert_config.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "arch/config/config_reading.h"
#include "core/status.h"

namespace ft::arch {
namespace {

constexpr float usual_epsilon = 1e-12f;

head_kind head_of(const std::string& architecture) {
  if (architecture.ends_with("ForSequenceClassification")) return head_kind::sequence_classification;
  if (architecture.ends_with("ForTokenClassification")) return head_kind::token_classification;
  if (architecture.ends_with("ForMaskedLM") || architecture.ends_with("ForPreTraining")) return head_kind::masked_lm;
  return head_kind::none;
}

// Names of the classes by id2label, {"0": "NEGATIVE", ...}; as many as it has, else num_labels, else two.
void read_labels(model_config& c, const io::json_reader& config) {
  const std::optional<io::json_reader> labels = config.object("id2label");
  const int64_t count = labels ? static_cast<int64_t>(labels->value().size()) : config.integer("num_labels", 2);
  constexpr int64_t most_labels = 1 << 20;
  if (count < 1 || count > most_labels)
    fail(FT_ERROR_CHECKPOINT, config.file(), ": ", count, " labels; there must be from 1 to ", most_labels);
  c.head.num_labels = count;
  for (int64_t i = 0; i < count; ++i) {
    const std::string fallback = cat("LABEL_", i);
    c.head.label_names.push_back(labels ? labels->string(std::to_string(i), fallback) : fallback);
  }
}

void refuse_unsupported(const io::json_reader& config) {
  if (config.boolean("is_decoder", false) || config.boolean("add_cross_attention", false))
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": BERT as a decoder is not supported; as an encoder it is");
  if (const std::string type = config.string("position_embedding_type", "absolute"); type != "absolute")
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": position_embedding_type '", type, "' is not supported; 'absolute' is");
}

bool has_pooler(const io::checkpoint& source, const std::string& prefix) {
  return source.holds(prefix + "pooler.dense.weight") || source.holds("pooler.dense.weight");
}

void read_distilbert_sizes(model_config& c, const io::json_reader& config) {
  c.hidden_size = read_size(config, "dim", 768);
  c.num_layers = config.has("n_layers") ? read_layer_count(config, "n_layers") : 6;
  c.attention.num_heads = read_size(config, "n_heads", 12);
  c.mlp.intermediate_size = read_size(config, "hidden_dim", 4 * 768);
  c.mlp.activation = read_activation(config, "activation", "gelu");
  c.norm.epsilon = usual_epsilon;
  c.head.classifier_activation = activation_kind::relu;
}

void read_bert_sizes(model_config& c, const io::json_reader& config) {
  c.hidden_size = read_size(config, "hidden_size", 768);
  c.num_layers = config.has("num_hidden_layers") ? read_layer_count(config, "num_hidden_layers") : 12;
  c.attention.num_heads = read_size(config, "num_attention_heads", 12);
  c.mlp.intermediate_size = read_size(config, "intermediate_size", 3072);
  c.mlp.activation = read_activation(config, "hidden_act", "gelu");
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_eps", usual_epsilon));
  c.tokens.type_vocab_size = read_size(config, "type_vocab_size", 2);
}

// What both formats leave to be derived.
void finish(model_config& c, const io::checkpoint& source) {
  if (c.hidden_size % c.attention.num_heads != 0)
    fail(FT_ERROR_CHECKPOINT, source.source(), ": hidden_size ", c.hidden_size, " is no multiple of the ",
         c.attention.num_heads, " attention heads");
  c.family = "bert";
  c.attention.num_kv_heads = c.attention.num_heads;
  c.attention.head_dim = c.hidden_size / c.attention.num_heads;
  check_heads(c, source);
  c.attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.attention.head_dim)));
  c.attention.bias = c.attention.output_bias = c.mlp.bias = true;
  c.layers.resize(static_cast<size_t>(c.num_layers));
  c.checkpoint_dtype = most_common_dtype(source);
  read_special_tokens(c, source);
  c.tokens.stop_ids.clear();  // encoders do not generate
  read_sentence_modules(c, source);
}

model_config from_hugging_face(const io::checkpoint& source) {
  const io::json_reader config = source.config();
  refuse_unsupported(config);
  model_config c;
  c.model_type = config.string("model_type");
  c.architecture = read_architecture(config, c.model_type);
  c.head.kind = head_of(c.architecture);
  c.tokens.vocab_size = read_size(config, "vocab_size", c.model_type == "roberta" ? 50265 : 30522);
  if (c.model_type == "distilbert")
    read_distilbert_sizes(c, config);
  else
    read_bert_sizes(c, config);

  c.positions.max = read_size(config, "max_position_embeddings", 512);
  if (bert_prefix(c.model_type) == "roberta.") {
    // Positions of tokens count from the padding token's id on (arXiv:1907.11692's fairseq code).
    c.positions.offset = config.integer("pad_token_id", 1) + 1;
    if (c.positions.offset < 0 || c.positions.offset >= c.positions.max)
      fail(FT_ERROR_CHECKPOINT, config.file(), ": pad_token_id ", c.positions.offset - 1, " leaves none of the ",
           c.positions.max, " positions");
    c.positions.max -= c.positions.offset;
  }
  const bool classifier = c.head.kind == head_kind::sequence_classification;
  c.head.has_pooler = has_pooler(source, bert_prefix(c.model_type)) || (classifier && c.model_type == "bert");
  if (classifier || c.head.kind == head_kind::token_classification) read_labels(c, config);
  c.embedding.tied = c.head.kind == head_kind::masked_lm && config.boolean("tie_word_embeddings", true);
  finish(c, source);
  return c;
}

// FasterTransformer's [bert] is the encoder alone: its converter leaves embeddings and pooler to the framework around
// it, so the model they are from must lie in the same folder.
model_config from_faster_transformer(const io::checkpoint& source) {
  const io::json_reader config = *source.config().object("bert");
  const auto rows = [&](const char* name) {
    for (const char* prefix : {"", "bert."})
      if (source.holds(cat(prefix, name))) return rows_of(source, cat(prefix, name));
    fail(FT_ERROR_CHECKPOINT, source.source(), ": holds no ", name, ": FasterTransformer writes BERT's layers without ",
         "embeddings; put the original model.safetensors or pytorch_model.bin into the folder");
  };
  model_config c;
  c.model_type = c.architecture = "bert";
  c.hidden_size = read_size(config, "hidden_size");
  c.num_layers = read_layer_count(config, "num_layer");
  c.attention.num_heads = read_size(config, "head_num");
  c.mlp.intermediate_size = read_size(config, "inter_size");
  c.mlp.activation = read_activation(config, "activation_type", "gelu");
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_eps", usual_epsilon));
  c.tokens.vocab_size = rows("embeddings.word_embeddings.weight");
  c.positions.max = rows("embeddings.position_embeddings.weight");
  c.tokens.type_vocab_size = rows("embeddings.token_type_embeddings.weight");
  c.head.has_pooler = has_pooler(source, "bert.");
  if (const std::string type = config.string("position_embedding_type", "absolute"); type != "absolute")
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": position_embedding_type '", type, "' is not supported; 'absolute' is");
  finish(c, source);
  return c;
}

pool_kind read_gguf_pooling(const io::checkpoint& source) {
  switch (const int64_t type = source.metadata().integer("bert.pooling_type", 1)) {
    case 0:
    case 1:
      return pool_kind::mean;
    case 2:
      return pool_kind::first;
    case 3:
      return pool_kind::last;
    default:
      fail(FT_ERROR_UNSUPPORTED, source.source(), ": bert.pooling_type ", type, " is not supported");
  }
}

// BERT and RoBERTa alike: the converter has dropped the positions that RoBERTa skips.
model_config from_gguf(const io::checkpoint& source) {
  const io::gguf_metadata& m = source.metadata();
  model_config c;
  c.model_type = c.architecture = "bert";
  c.tokens.vocab_size = rows_of(source, "token_embd.weight");
  c.positions.max = rows_of(source, "position_embd.weight");
  c.tokens.type_vocab_size = source.find("token_types.weight") ? rows_of(source, "token_types.weight") : 0;
  c.hidden_size = read_size(m, "bert.embedding_length");
  c.num_layers = read_layer_count(m, "bert.block_count");
  c.attention.num_heads = read_size(m, "bert.attention.head_count");
  c.mlp.intermediate_size = read_size(m, "bert.feed_forward_length");
  c.mlp.activation = activation_kind::gelu;
  c.norm.epsilon = static_cast<float>(m.number("bert.attention.layer_norm_epsilon", usual_epsilon));
  c.pooling.kind = read_gguf_pooling(source);
  finish(c, source);
  return c;
}

}  // namespace

std::string bert_prefix(const std::string& model_type) {
  if (model_type == "bert" || model_type == "distilbert") return model_type + ".";
  return "roberta.";
}

model_config bert_config(const io::checkpoint& source) {
  if (source.format() == io::checkpoint_format::faster_transformer) return from_faster_transformer(source);
  return source.format() == io::checkpoint_format::gguf ? from_gguf(source) : from_hugging_face(source);
}

}  // namespace ft::arch
