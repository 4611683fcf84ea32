// OPT (arXiv:2205.01068): a pre-norm decoder with learned positions, ReLU by default and a tied output. The 350M model
// alone norms after the additions and has embeddings narrower than its layers.
#include "arch/config/config_reading.h"
#include "arch/families/decoder_config.h"
#include "arch/families/families.h"
#include "arch/networks/decoder.h"
#include "arch/weights/saved_by_ranks.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"

namespace ft::arch {
namespace {

constexpr int64_t first_position = 2;  // rows of the position table before the first position's

// Defaults are those of transformers' OPTConfig.
model_config opt_config(const io::checkpoint& source) {
  const io::json_reader config = source.config();
  model_config c;
  c.family = c.model_type = "opt";
  read_decoder_head(
      c, config, source, config.boolean("tie_word_embeddings", true), "lm_head.weight",
      {"model.decoder.embed_tokens.weight", "decoder.embed_tokens.weight", "model.model.decoder.embed_tokens.weight"});
  c.tokens.vocab_size = read_size(config, "vocab_size", 50272);
  c.hidden_size = read_size(config, "hidden_size", 768);
  c.embedding.size = read_size(config, "word_embed_proj_dim", c.hidden_size);
  c.num_layers = read_layer_count(config, "num_hidden_layers", 12);
  c.attention.num_heads = read_size(config, "num_attention_heads", 12);
  c.mlp.intermediate_size = read_size(config, "ffn_dim", 3072);
  c.positions.max = read_size(config, "max_position_embeddings", 2048);
  c.mlp.activation = read_activation(config, "activation_function", "relu");
  c.attention.bias = c.attention.output_bias = c.mlp.bias = config.boolean("enable_bias", true);
  c.positions.learned = true;
  c.positions.offset = first_position;
  c.norm.weights = config.boolean("layer_norm_elementwise_affine", true);
  const bool norm_before = config.boolean("do_layer_norm_before", true);
  c.block = norm_before ? block_kind::pre_norm : block_kind::post_norm;
  c.final_norm = norm_before && !config.boolean("_remove_final_layer_norm", false);
  finish_decoder(c, source);
  return c;
}

weight_table opt_weights(const model_config& c, io::checkpoint_format format) {
  if (is_saved_by_ranks(format)) return gpt_weights_by_ranks(c, format);
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  const auto norm = [&](table_builder& t, const char* ours, const char* theirs) {
    if (c.norm.weights) t.layer_norm(ours, theirs, hidden);
  };
  table_builder t({"model.decoder.", "decoder.", "model.model.decoder."});
  t.vocabulary(c, "embed_tokens", c.embedding.size, {"lm_head.weight"});
  t.lookup("positions", "embed_positions", c.positions.max + c.positions.offset, hidden);
  if (c.projects_embedding()) {
    t.matrix("embedding_projection", "project_in", hidden, c.embedding.size, none, false);
    t.matrix("output_projection", "project_out", c.embedding.size, hidden, none, false);
  }
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("layers.", layer, "."));
    norm(t, "attention_norm", "self_attn_layer_norm");
    t.matrix("attention.query", "self_attn.q_proj", hidden, hidden, column, c.attention.bias);
    t.matrix("attention.key", "self_attn.k_proj", hidden, hidden, column, c.attention.bias);
    t.matrix("attention.value", "self_attn.v_proj", hidden, hidden, column, c.attention.bias);
    t.matrix("attention.output", "self_attn.out_proj", hidden, hidden, row, c.attention.output_bias);
    norm(t, "feed_forward_norm", "final_layer_norm");
    t.matrix("feed_forward.up", "fc1", c.mlp.intermediate_size, hidden, column, c.mlp.bias);
    t.matrix("feed_forward.down", "fc2", hidden, c.mlp.intermediate_size, row, c.mlp.bias);
  }
  t.enter("", "");
  if (c.final_norm) norm(t, "norm", "final_layer_norm");
  return t.take();
}

}  // namespace

family opt_family() {
  return {.name = "opt",
          .hugging_face = {"opt"},
          .gguf = {},
          .config = opt_config,
          .weights = opt_weights,
          .build = build_decoder};
}

}  // namespace ft::arch
