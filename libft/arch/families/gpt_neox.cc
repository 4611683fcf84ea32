// GPT-NeoX (arXiv:2204.06745) and Pythia (arXiv:2304.01373): attention and feed-forward side by side behind a norm
// each, rotary positions on the halves of a part of each head. Query, key and value are stored as one matrix, head by
// head.
#include "arch/config/config_reading.h"
#include "arch/config/rope_scaling.h"
#include "arch/families/decoder_config.h"
#include "arch/families/families.h"
#include "arch/networks/decoder.h"
#include "arch/weights/saved_by_ranks.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"

namespace ft::arch {
namespace {

// transformers 5 keeps the rotary part and base among rope_parameters; before, they had keys of their own.
void read_rotary(model_config& c, const io::json_reader& config) {
  double part = config.number("rotary_pct", 0.25);
  if (const auto parameters = config.object("rope_parameters"))
    part = parameters->number("partial_rotary_factor", part);
  const auto rotary_dim =
      static_cast<int64_t>(static_cast<double>(c.attention.head_dim) * (part > 0 && part <= 1 ? part : 0));
  check_rotary_dim(rotary_dim, c.attention.head_dim, config.file());
  const double theta = config.number("rotary_emb_base", 10000);
  c.positions.rotary = {make_rotary(read_rope(config, "full_attention", theta, c.positions.max), rotary_dim)};
}

// Defaults are those of transformers' GPTNeoXConfig.
model_config gpt_neox_config(const io::checkpoint& source) {
  if (is_saved_by_ranks(source.format())) return gpt_config_by_ranks(source);
  const io::json_reader config = source.config();
  model_config c;
  c.family = c.model_type = "gpt_neox";
  const char* output = source.holds("embed_out.weight") ? "embed_out.weight" : "lm_head.weight";
  read_decoder_head(c, config, source, config.boolean("tie_word_embeddings", false), output,
                    {"gpt_neox.embed_in.weight", "embed_in.weight"});
  c.tokens.vocab_size = read_size(config, "vocab_size", 50432);
  c.hidden_size = read_size(config, "hidden_size", 6144);
  c.num_layers = read_layer_count(config, "num_hidden_layers", 44);
  c.attention.num_heads = read_size(config, "num_attention_heads", 64);
  c.mlp.intermediate_size = read_size(config, "intermediate_size", 24576);
  c.positions.max = read_size(config, "max_position_embeddings", 2048);
  c.mlp.activation = read_activation(config, "hidden_act", "gelu");
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_eps", 1e-5));
  c.attention.bias = c.attention.output_bias = config.boolean("attention_bias", true);
  c.mlp.bias = true;
  c.block = config.boolean("use_parallel_residual", true) ? block_kind::parallel : block_kind::pre_norm;
  finish_decoder(c, source);
  read_rotary(c, config);
  return c;
}

weight_table gpt_neox_weights(const model_config& c, io::checkpoint_format format) {
  if (is_saved_by_ranks(format)) return gpt_weights_by_ranks(c, format);
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  table_builder t({"gpt_neox.", ""});
  t.vocabulary(c, "embed_in", hidden, {"embed_out.weight", "lm_head.weight"});
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("layers.", layer, "."));
    t.layer_norm("attention_norm", "input_layernorm", hidden);
    t.fused_attention("attention.query_key_value", hidden, c.attention.bias, {.groups = c.attention.num_heads});
    t.matrix("attention.output", "attention.dense", hidden, hidden, row, c.attention.output_bias);
    t.layer_norm("feed_forward_norm", "post_attention_layernorm", hidden);
    t.matrix("feed_forward.up", "mlp.dense_h_to_4h", c.mlp.intermediate_size, hidden, column, true);
    t.matrix("feed_forward.down", "mlp.dense_4h_to_h", hidden, c.mlp.intermediate_size, row, true);
  }
  t.enter("", "");
  t.layer_norm("norm", "final_layer_norm", hidden);
  return t.take();
}

}  // namespace

family gpt_neox_family() {
  return {.name = "gpt_neox",
          .hugging_face = {"gpt_neox"},
          .gguf = {},
          .sections = {"gptneox"},
          .config = gpt_neox_config,
          .weights = gpt_neox_weights,
          .build = build_decoder};
}

}  // namespace ft::arch
