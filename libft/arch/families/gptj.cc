// GPT-J (Wang and Komatsuzaki, 2021): attention and feed-forward side by side behind one norm, rotary positions on the
// neighbouring pairs of a part of each head, an output projection with a bias.
#include <nlohmann/json.hpp>

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

// Defaults are those of transformers' GPTJConfig.
model_config gptj_config(const io::checkpoint& source) {
  if (is_saved_by_ranks(source.format())) return gpt_config_by_ranks(source);
  const io::json_reader config = source.config();
  model_config c;
  c.family = c.model_type = "gptj";
  read_decoder_head(c, config, source, config.boolean("tie_word_embeddings", false), "lm_head.weight",
                    {"transformer.wte.weight", "wte.weight"});
  c.tokens.vocab_size = read_size(config, "vocab_size", 50400);
  c.hidden_size = read_size(config, given_key(config, {"n_embd", "hidden_size"}), 4096);
  c.num_layers = read_layer_count(config, given_key(config, {"n_layer", "num_hidden_layers"}), 28);
  c.attention.num_heads = read_size(config, given_key(config, {"n_head", "num_attention_heads"}), 16);
  c.mlp.intermediate_size = read_size(config, "n_inner", 4 * c.hidden_size);
  c.positions.max = read_size(config, given_key(config, {"n_positions", "max_position_embeddings"}), 2048);
  c.mlp.activation = read_activation(config, "activation_function", "gelu_new");
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5));
  c.mlp.bias = true;
  c.block = block_kind::parallel;
  c.shared_norm = true;
  finish_decoder(c, source);

  if (config.value().contains("rotary_dim") && !config.has("rotary_dim"))
    fail(FT_ERROR_UNSUPPORTED, config.file(),
         ": rotary_dim null is not supported; give the number of elements to turn");
  const int64_t rotary_dim = read_size(config, "rotary_dim", 64);
  check_rotary_dim(rotary_dim, c.attention.head_dim, config.file());
  c.positions.rotary = {make_rotary({}, rotary_dim)};
  c.positions.rotary[0].style = rotary_style::interleaved;
  return c;
}

weight_table gptj_weights(const model_config& c, io::checkpoint_format format) {
  if (is_saved_by_ranks(format)) return gpt_weights_by_ranks(c, format);
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  table_builder t({"transformer.", ""});
  t.vocabulary(c, "wte", hidden, {"lm_head.weight"});
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("h.", layer, "."));
    t.layer_norm("attention_norm", "ln_1", hidden);
    t.matrix("attention.query", "attn.q_proj", hidden, hidden, column, false);
    t.matrix("attention.key", "attn.k_proj", hidden, hidden, column, false);
    t.matrix("attention.value", "attn.v_proj", hidden, hidden, column, false);
    t.matrix("attention.output", "attn.out_proj", hidden, hidden, row, false);
    t.matrix("feed_forward.up", "mlp.fc_in", c.mlp.intermediate_size, hidden, column, true);
    t.matrix("feed_forward.down", "mlp.fc_out", hidden, c.mlp.intermediate_size, row, true);
  }
  t.enter("", "");
  t.layer_norm("norm", "ln_f", hidden);
  if (c.head.kind == head_kind::causal_lm)
    t.add("output", ".bias", "lm_head", ".bias", {c.tokens.vocab_size}, vocabulary).sources = {"lm_head.bias"};
  return t.take();
}

}  // namespace

family gptj_family() {
  return {.name = "gptj",
          .hugging_face = {"gptj"},
          .gguf = {},
          .sections = {"gptj"},
          .config = gptj_config,
          .weights = gptj_weights,
          .build = build_decoder};
}

}  // namespace ft::arch
