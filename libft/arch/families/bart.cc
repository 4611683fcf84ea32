// The BART line: encoder-decoders with layer norms and absolute positions. BART (arXiv:1910.13461) norms after each
// block, mBART (arXiv:2001.08210) before, and Marian (arXiv:1804.00344) has sinusoidal positions, perhaps a vocabulary
// for each side, and a bias on the logits that counts. The recipe is in encoder_decoder.cc.
#include <cmath>
#include <string>

#include "arch/config/config_reading.h"
#include "arch/families/families.h"
#include "arch/networks/encoder_decoder.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"

namespace ft::arch {
namespace {

void read_head(model_config& c, const io::json_reader& config) {
  c.architecture = read_architecture(config, c.model_type);
  const std::string_view name = c.architecture;
  if (name.ends_with("ForConditionalGeneration") || name.ends_with("MTModel"))
    c.head.kind = head_kind::causal_lm;
  else if (!name.ends_with("Model") && name != c.model_type)
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": ", name,
         " is not supported; models for conditional generation and bare models are");
}

// What the file says of one stack: the encoder or the decoder.
void read_side(stack_config& s, const std::string& side, const io::json_reader& config, const io::checkpoint& source) {
  s.num_layers = read_layer_count(config, side + "_layers", 12);
  s.mlp.intermediate_size = read_size(config, side + "_ffn_dim", 4096);
  const int64_t heads = read_size(config, side + "_attention_heads", 16);
  if (s.hidden_size % heads != 0)
    fail(FT_ERROR_CHECKPOINT, config.file(), ": ", heads, " attention heads cannot share ", s.hidden_size,
         " elements of d_model equally");
  s.attention.num_heads = s.attention.num_kv_heads = heads;
  s.attention.head_dim = s.hidden_size / heads;
  check_heads(s, source);
}

// One table for both sides and the output, or one each: Marian says so; of the others a file that is untied holds all.
void read_embeddings(model_config& c, const io::json_reader& config, const io::checkpoint& source) {
  const bool two_vocabularies = c.model_type == "marian" && !config.boolean("share_encoder_decoder_embeddings", true);
  c.embedding.tied = config.boolean("tie_word_embeddings", true);
  const bool holds_each =
      source.find("model.encoder.embed_tokens.weight") || source.find("encoder.embed_tokens.weight");
  c.embedding.shared = !two_vocabularies && (c.embedding.tied || !holds_each);
  c.tokens.vocab_size = two_vocabularies ? read_size(config, "decoder_vocab_size", c.tokens.encoder_vocab_size)
                                         : c.tokens.encoder_vocab_size;
}

model_config bart_config(const io::checkpoint& source) {
  const io::json_reader config = source.config();
  model_config c;
  c.family = "bart";
  c.model_type = config.string("model_type", "");
  const bool marian = c.model_type == "marian", mbart = c.model_type == "mbart";
  c.checkpoint_dtype = most_common_dtype(source);
  c.is_encoder_decoder = c.causal = true;
  read_head(c, config);
  c.hidden_size = read_size(config, "d_model", 1024);
  c.positions.max = read_size(config, "max_position_embeddings", 1024);
  c.tokens.encoder_vocab_size = read_size(config, "vocab_size", marian ? 58101 : 50265);
  read_embeddings(c, config, source);
  if (config.boolean("scale_embedding", false))
    c.embedding.scale = static_cast<float>(std::sqrt(static_cast<double>(c.hidden_size)));
  c.mlp.activation = read_activation(config, "activation_function", "gelu");
  c.attention.bias = c.attention.output_bias = c.mlp.bias = true;
  c.positions.sinusoidal = marian;
  c.positions.offset = marian ? 0 : 2;  // the learned table's first rows stood for padding once
  c.positions.learned = !marian;
  c.block = mbart ? block_kind::pre_norm : block_kind::post_norm;
  c.final_norm = mbart;
  c.embedding_norm = !marian;
  c.encoder = c;
  read_side(c, "decoder", config, source);
  read_side(c.encoder, "encoder", config, source);
  read_special_tokens(c, source);
  read_decoder_tokens(c, source, {.decoder_start = marian ? 58100 : mbart ? -1 : 2, .forced_eos = marian ? 0 : 2});
  return c;
}

void add_attention(table_builder& t, const model_config& c, const std::string& ours, const std::string& theirs) {
  using enum shard_axis;
  t.matrix(ours + ".query", theirs + ".q_proj", c.hidden_size, c.hidden_size, column, true);
  t.matrix(ours + ".key", theirs + ".k_proj", c.hidden_size, c.hidden_size, column, true);
  t.matrix(ours + ".value", theirs + ".v_proj", c.hidden_size, c.hidden_size, column, true);
  t.matrix(ours + ".output", theirs + ".out_proj", c.hidden_size, c.hidden_size, row, true);
  t.layer_norm(ours + "_norm", theirs + "_layer_norm", c.hidden_size);
}

void add_stack(table_builder& t, const model_config& c, bool decoder) {
  using enum shard_axis;
  const std::string name = decoder ? "decoder." : "encoder.";
  const int64_t width = decoder ? c.mlp.intermediate_size : c.encoder.mlp.intermediate_size;
  t.enter(name, name);
  if (c.positions.learned)
    t.lookup("positions", "embed_positions", c.positions.max + c.positions.offset, c.hidden_size);
  if (c.embedding_norm) t.layer_norm("embedding_norm", "layernorm_embedding", c.hidden_size);
  for (int64_t i = 0; i < (decoder ? c.num_layers : c.encoder.num_layers); ++i) {
    const std::string layer = cat(name, "layers.", i, ".");
    t.enter(layer, layer);
    add_attention(t, c, "attention", "self_attn");
    if (decoder) add_attention(t, c, "cross", "encoder_attn");
    t.matrix("feed_forward.up", "fc1", width, c.hidden_size, column, true);
    t.matrix("feed_forward.down", "fc2", c.hidden_size, width, row, true);
    t.layer_norm("feed_forward_norm", "final_layer_norm", c.hidden_size);
  }
  t.enter(name, name);
  if (c.final_norm) t.layer_norm("norm", "layer_norm", c.hidden_size);
}

weight_table bart_weights(const model_config& c, io::checkpoint_format) {
  using enum shard_axis;
  table_builder t({"model.", ""});
  // Shared by both sides, under whichever name the file holds it; else one for each.
  const auto also_in = [](weight_spec& spec, std::initializer_list<const char*> names) {
    for (const char* name : names) spec.sources.push_back(name);
  };
  weight_spec& words = t.matrix("embedding", c.embedding.shared ? "shared" : "decoder.embed_tokens",
                                c.tokens.vocab_size, c.hidden_size, vocabulary, false);
  if (c.embedding.shared)
    also_in(words, {"model.encoder.embed_tokens.weight", "encoder.embed_tokens.weight",
                    "model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight"});
  if (c.embedding.tied) also_in(words, {"lm_head.weight"});
  if (!c.embedding.shared)
    t.matrix("encoder.embedding", "encoder.embed_tokens", c.tokens.encoder_vocab_size, c.hidden_size, vocabulary,
             false);
  add_stack(t, c, false);
  add_stack(t, c, true);
  weight_table table = t.take();

  table_builder head({""});
  if (c.head.kind == head_kind::causal_lm) {
    if (!c.embedding.tied) head.matrix("output", "lm_head", c.tokens.vocab_size, c.hidden_size, vocabulary, false);
    head.add("output", ".bias", "final_logits_bias", "", {c.tokens.vocab_size}, vocabulary, {.as_row = true}).required =
        false;
  }
  for (weight_spec& spec : head.take()) table.push_back(std::move(spec));
  return table;
}

}  // namespace

family bart_family() {
  return {.name = "bart",
          .hugging_face = {"bart", "mbart", "marian"},
          .gguf = {},
          .config = bart_config,
          .weights = bart_weights,
          .build = build_encoder_decoder};
}

}  // namespace ft::arch
