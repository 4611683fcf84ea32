// GPT-2 (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019): a pre-norm decoder with learned
// positions. Its linear layers are stored [in, out], query, key and value as one.
#include "arch/config/config_reading.h"
#include "arch/families/decoder_config.h"
#include "arch/families/families.h"
#include "arch/networks/decoder.h"
#include "arch/weights/saved_by_ranks.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"

namespace ft::arch {
namespace {

// Defaults are those of transformers' GPT2Config.
model_config gpt2_config(const io::checkpoint& source) {
  if (is_saved_by_ranks(source.format())) return gpt_config_by_ranks(source);
  const io::json_reader config = source.config();
  if (config.boolean("add_cross_attention", false))
    fail(FT_ERROR_UNSUPPORTED, config.file(),
         ": GPT-2 with cross-attention is not supported; as a decoder alone it is");
  model_config c;
  c.family = c.model_type = "gpt2";
  read_decoder_head(c, config, source, config.boolean("tie_word_embeddings", true), "lm_head.weight",
                    {"transformer.wte.weight", "wte.weight"});
  c.tokens.vocab_size = read_size(config, "vocab_size", 50257);
  c.hidden_size = read_size(config, given_key(config, {"n_embd", "hidden_size"}), 768);
  c.num_layers = read_layer_count(config, given_key(config, {"n_layer", "num_hidden_layers"}), 12);
  c.attention.num_heads = read_size(config, given_key(config, {"n_head", "num_attention_heads"}), 12);
  c.mlp.intermediate_size = read_size(config, "n_inner", 4 * c.hidden_size);
  c.positions.max = read_size(config, given_key(config, {"n_positions", "max_position_embeddings"}), 1024);
  c.mlp.activation = read_activation(config, "activation_function", "gelu_new");
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5));
  c.attention.bias = c.attention.output_bias = c.mlp.bias = true;
  c.positions.learned = true;
  finish_decoder(c, source);
  if (!config.boolean("scale_attn_weights", true)) c.attention.scale = 1;
  if (config.boolean("scale_attn_by_inverse_layer_idx", false))
    for (size_t i = 0; i < c.layers.size(); ++i) c.layers[i].attention_scale = 1 / static_cast<float>(i + 1);
  return c;
}

weight_table gpt2_weights(const model_config& c, io::checkpoint_format format) {
  if (is_saved_by_ranks(format)) return gpt_weights_by_ranks(c, format);
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  const weight_layout conv1d{.transposed = true};
  table_builder t({"transformer.", ""});
  t.vocabulary(c, "wte", hidden, {"lm_head.weight"});
  t.lookup("positions", "wpe", c.positions.max, hidden);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("h.", layer, "."));
    t.layer_norm("attention_norm", "ln_1", hidden);
    t.fused_attention("attn.c_attn", hidden, true, {.transposed = true});
    t.matrix("attention.output", "attn.c_proj", hidden, hidden, row, true, conv1d);
    t.layer_norm("feed_forward_norm", "ln_2", hidden);
    t.matrix("feed_forward.up", "mlp.c_fc", c.mlp.intermediate_size, hidden, column, true, conv1d);
    t.matrix("feed_forward.down", "mlp.c_proj", hidden, c.mlp.intermediate_size, row, true, conv1d);
  }
  t.enter("", "");
  t.layer_norm("norm", "ln_f", hidden);
  return t.take();
}

}  // namespace

family gpt2_family() {
  return {.name = "gpt2",
          .hugging_face = {"gpt2"},
          .gguf = {},
          .sections = {"gpt"},
          .megatron = true,
          .config = gpt2_config,
          .weights = gpt2_weights,
          .build = build_decoder};
}

}  // namespace ft::arch
