// BLOOM (arXiv:2211.05100): a pre-norm decoder without position embeddings. Attention falls off with distance (ALiBi,
// arXiv:2108.12409) and the embedding has a norm of its own. Query, key and value are one matrix, head by head.
#include <bit>
#include <cmath>

#include "arch/config/config_reading.h"
#include "arch/families/decoder_config.h"
#include "arch/families/families.h"
#include "arch/networks/decoder.h"
#include "arch/weights/saved_by_ranks.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"

namespace ft::arch {
namespace {

// Defaults are those of transformers' BloomConfig. slow_but_exact asks for another order of the same sums, and is left
// alone; transformers forgets the biases under it. There is no last position; memory is planned for as many as the
// model was trained on.
model_config bloom_config(const io::checkpoint& source) {
  const io::json_reader config = source.config();
  model_config c;
  c.family = c.model_type = "bloom";
  read_decoder_head(c, config, source, config.boolean("tie_word_embeddings", true), "lm_head.weight",
                    {"transformer.word_embeddings.weight", "word_embeddings.weight"});
  c.tokens.vocab_size = read_size(config, "vocab_size", 250880);
  c.hidden_size = read_size(config, given_key(config, {"n_embed", "hidden_size"}), 64);
  c.num_layers = read_layer_count(config, given_key(config, {"n_layer", "num_hidden_layers"}), 2);
  c.attention.num_heads = read_size(config, given_key(config, {"n_head", "num_attention_heads"}), 8);
  c.mlp.intermediate_size = 4 * c.hidden_size;
  c.positions.max = read_size(config, "seq_length", 2048);
  c.mlp.activation = activation_kind::gelu_tanh;
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5));
  c.attention.bias = c.attention.output_bias = c.mlp.bias = true;
  c.embedding_norm = true;
  if (config.boolean("apply_residual_connection_post_layernorm", false)) c.block = block_kind::normed_residual;
  finish_decoder(c, source);
  c.positions.alibi_slopes = alibi_slopes_for(c.attention.num_heads);
  return c;
}

weight_table bloom_weights(const model_config& c, io::checkpoint_format format) {
  if (is_saved_by_ranks(format)) return gpt_weights_by_ranks(c, format);
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  table_builder t({"transformer.", ""});
  t.vocabulary(c, "word_embeddings", hidden, {"lm_head.weight"});
  t.layer_norm("embedding_norm", "word_embeddings_layernorm", hidden);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("h.", layer, "."));
    t.layer_norm("attention_norm", "input_layernorm", hidden);
    t.fused_attention("self_attention.query_key_value", hidden, true, {.groups = c.attention.num_heads});
    t.matrix("attention.output", "self_attention.dense", hidden, hidden, row, true);
    t.layer_norm("feed_forward_norm", "post_attention_layernorm", hidden);
    t.matrix("feed_forward.up", "mlp.dense_h_to_4h", c.mlp.intermediate_size, hidden, column, true);
    t.matrix("feed_forward.down", "mlp.dense_4h_to_h", hidden, c.mlp.intermediate_size, row, true);
  }
  t.enter("", "");
  t.layer_norm("norm", "ln_f", hidden);
  return t.take();
}

}  // namespace

family bloom_family() {
  return {.name = "bloom",
          .hugging_face = {"bloom"},
          .gguf = {},
          .config = bloom_config,
          .weights = bloom_weights,
          .build = build_decoder};
}

}  // namespace ft::arch
