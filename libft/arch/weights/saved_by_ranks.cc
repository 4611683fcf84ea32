#include "arch/weights/saved_by_ranks.h"

#include <nlohmann/json.hpp>

#include "arch/config/config_reading.h"
#include "arch/config/rope_scaling.h"
#include "arch/families/decoder_config.h"
#include "arch/weights/table_builder.h"
#include "core/status.h"
#include "io/text/printable.h"

namespace ft::arch {
namespace {

using io::checkpoint_format;

// config.ini and Megatron's arguments say yes as true, as 1, or not at all.
bool flag(const io::json_reader& config, std::string_view key, bool otherwise) {
  const io::json* value = config.find(key);
  return value && value->is_number_integer() ? config.integer(key) != 0 : config.boolean(key, otherwise);
}

void refuse_flag(const io::json_reader& config, std::string_view key) {
  if (flag(config, key, false)) fail(FT_ERROR_UNSUPPORTED, config.file(), ": ", key, " is not supported");
}

// The output projection: the embedding where there is no other, or the same again.
void read_output(model_config& c, const io::checkpoint& source, std::string_view output, std::string_view input) {
  c.head.kind = head_kind::causal_lm;
  const io::stored_tensor *own = source.find(output), *embedding = source.find(input);
  c.embedding.tied = !own || (embedding && same_elements(own->data, embedding->data));
}

// FasterTransformer's Gelu is the tanh approximation.
activation_kind read_ft_activation(const io::json_reader& config) {
  const std::string name = config.string("activation_type", "Gelu");
  if (name == "Gelu" || name == "gelu") return activation_kind::gelu_tanh;
  if (name == "Relu" || name == "relu") return activation_kind::relu;
  fail(FT_ERROR_UNSUPPORTED, config.file(), ": activation_type '", io::printable(name),
       "' is not supported; Gelu and Relu are");
}

void read_ft_sizes(model_config& c, const io::json_reader& config) {
  constexpr int64_t usual_positions = 2048;  // rotary positions and ALiBi have no table that would say how many
  c.attention.num_heads = read_size(config, "head_num");
  c.hidden_size = c.attention.num_heads * read_size(config, "size_per_head");
  c.mlp.intermediate_size = read_size(config, "inter_size");
  c.num_layers = read_layer_count(config, "num_layer");
  c.tokens.vocab_size = read_size(config, "vocab_size");
  c.positions.max = read_size(config, "max_pos_seq_len", usual_positions);
  // The converters leave the epsilon out where the model they know has always the same.
  c.norm.epsilon = static_cast<float>(config.number("layernorm_eps", 1e-5));
  c.mlp.activation = read_ft_activation(config);
  c.mlp.bias = true;
}

// [gpt]: GPT-2 and Megatron's GPT and, by its variants' settings, OPT and BLOOM.
void read_ft_gpt(model_config& c, const io::json_reader& config, const io::checkpoint& source) {
  refuse_flag(config, "has_adapters");
  c.attention.bias = c.attention.output_bias = true;
  c.positions.learned = flag(config, "has_positional_encoding", true);
  c.embedding_norm = flag(config, "has_pre_decoder_layernorm", false);
  c.final_norm = flag(config, "has_post_decoder_layernorm", true);
  const std::string norms = config.string("layernorm_type", "pre_layernorm");
  if (norms == "post_layernorm")
    c.block = block_kind::post_norm;
  else if (norms != "pre_layernorm")
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": layernorm_type '", io::printable(norms), "' is not supported");
  if (flag(config, "use_attention_linear_bias", false))
    c.positions.alibi_slopes = alibi_slopes_for(c.attention.num_heads);
  const bool bloom = !c.positions.alibi_slopes.empty() && c.embedding_norm && !c.positions.learned && c.final_norm;
  const bool opt = c.positions.alibi_slopes.empty() && !c.embedding_norm && c.positions.learned;
  const bool gpt2 = opt && c.final_norm && c.block == block_kind::pre_norm;
  if (!gpt2 && !opt && !bloom)
    fail(FT_ERROR_UNSUPPORTED, config.file(),
         ": these settings of positions and norms are of no supported model; those of GPT-2, OPT and BLOOM are");
  c.family = gpt2 && c.mlp.activation == activation_kind::gelu_tanh ? "gpt2" : opt ? "opt" : "bloom";
  if (opt) c.embedding.size = c.hidden_size;
  read_output(c, source, "model.lm_head.weight", "model.wte");
}

void read_ft_rotary(model_config& c, const io::json_reader& config, rotary_style style) {
  const int64_t rotary_dim = read_size(config, "rotary_embedding");
  check_rotary_dim(rotary_dim, c.attention.head_dim, config.file());
  c.positions.rotary = {make_rotary({}, rotary_dim)};
  c.positions.rotary[0].style = style;
}

model_config from_faster_transformer(const io::checkpoint& source) {
  const io::json_reader ini = source.config();
  model_config c;
  for (const char* section : {"gpt", "gptj", "gptneox"})
    if (ini.has(section)) c.architecture = section;
  const io::json_reader config = *ini.object(c.architecture);
  read_ft_sizes(c, config);
  if (c.architecture == "gpt") {
    read_ft_gpt(c, config, source);
  } else {
    c.family = c.architecture == "gptj" ? "gptj" : "gpt_neox";
    c.head.kind = head_kind::causal_lm;
    c.block = block_kind::parallel;
    c.shared_norm = c.architecture == "gptj";
  }
  finish_decoder(c, source);
  if (c.architecture == "gptj") read_ft_rotary(c, config, rotary_style::interleaved);
  if (c.architecture == "gptneox") {
    c.attention.bias = c.attention.output_bias = true;
    if (!flag(config, "use_gptj_residual", true)) c.block = block_kind::pre_norm;
    read_ft_rotary(c, config, rotary_style::half);
  }
  c.model_type = c.family;
  c.tokens.bos_id = read_token_id(config, "start_id");
  if (const int32_t end = read_token_id(config, "end_id"); end >= 0) c.tokens.stop_ids = {end};
  return c;
}

// What Megatron-LM can train and the recipe cannot run.
void refuse_megatron_variants(const io::json_reader& arguments) {
  for (const char* key : {"swiglu", "squared_relu", "group_query_attention", "apply_layernorm_1p", "num_experts",
                          "multi_query_attention", "use_rotary_position_embeddings"})
    refuse_flag(arguments, key);
  const auto must_be = [&](const char* key, std::string_view supported) {
    if (const std::string value = arguments.string(key, supported); value != supported)
      fail(FT_ERROR_UNSUPPORTED, arguments.file(), ": ", key, " '", io::printable(value), "' is not supported; '",
           supported, "' is");
  };
  must_be("position_embedding_type", "learned_absolute");
  must_be("normalization", "LayerNorm");
  if (!flag(arguments, "add_bias_linear", true))
    fail(FT_ERROR_UNSUPPORTED, arguments.file(), ": linear layers without biases are not supported");
}

constexpr const char* megatron_embedding = "language_model.embedding.word_embeddings.weight";

void read_megatron_sizes(model_config& c, const io::json_reader& arguments, const io::checkpoint& source) {
  refuse_megatron_variants(arguments);
  c.hidden_size = read_size(arguments, "hidden_size");
  c.num_layers = read_layer_count(arguments, "num_layers");
  c.attention.num_heads = read_size(arguments, "num_attention_heads");
  c.mlp.intermediate_size = read_size(arguments, "ffn_hidden_size", 4 * c.hidden_size);
  c.positions.max = read_size(arguments, "max_position_embeddings");
  c.norm.epsilon =
      static_cast<float>(arguments.number(given_key(arguments, {"layernorm_epsilon", "norm_epsilon"}), 1e-5));
  const bool approximate = flag(arguments, "openai_gelu", false) || flag(arguments, "bias_gelu_fusion", true);
  c.mlp.activation = approximate ? activation_kind::gelu_tanh : activation_kind::gelu;
  if (flag(arguments, "apply_residual_connection_post_layernorm", false)) c.block = block_kind::normed_residual;
  // The vocabulary is padded, to a multiple that depends on the ranks, and its padding is as good as any token.
  c.tokens.vocab_size = rows_of(source, cat(megatron_embedding, ".0")) * source.tensor_parallel();
}

// Checkpoints from before Megatron-LM saved its arguments: a GPT-2 configuration beside them says what the tensors do
// not, as for transformers' converter.
void read_sizes_beside(model_config& c, const io::checkpoint& source) {
  const io::json_ptr beside = source.read_json("config.json");
  if (!beside)
    fail(FT_ERROR_CHECKPOINT, source.source(),
         ": the checkpoint was saved without arguments, as version 0 was: put a "
         "config.json of GPT-2 with n_embd, n_layer, n_head and n_positions into the folder");
  const io::json_reader config(*beside, source.source() + "/config.json");
  c.hidden_size = read_size(config, "n_embd");
  c.num_layers = read_layer_count(config, "n_layer");
  c.attention.num_heads = read_size(config, "n_head");
  c.mlp.intermediate_size = read_size(config, "n_inner", 4 * c.hidden_size);
  c.positions.max = read_size(config, "n_positions");
  c.norm.epsilon = static_cast<float>(config.number("layer_norm_epsilon", 1e-5));
  c.mlp.activation = read_activation(config, "activation_function", "gelu_new");
  c.tokens.vocab_size = rows_of(source, cat(megatron_embedding, ".0")) * source.tensor_parallel();
}

model_config from_megatron(const io::checkpoint& source) {
  model_config c;
  c.family = c.model_type = "gpt2";
  c.architecture = "megatron-gpt";
  if (const std::optional<io::json_reader> arguments = source.config().object("args"))
    read_megatron_sizes(c, *arguments, source);
  else
    read_sizes_beside(c, source);
  c.attention.bias = c.attention.output_bias = c.mlp.bias = true;
  c.positions.learned = true;
  c.head.kind = head_kind::causal_lm;
  c.embedding.tied = !source.holds("language_model.output_layer.weight.0");
  finish_decoder(c, source);
  return c;
}

// A layer's weights by Megatron's names. FasterTransformer drops the "self_".
void add_layer(table_builder& t, const model_config& c, const std::string& attention, const weight_layout& matrix,
               int64_t groups) {
  using enum shard_axis;
  const int64_t hidden = c.hidden_size;
  weight_layout fused = matrix;
  fused.groups = groups;
  t.layer_norm("attention_norm", "input_layernorm", hidden);
  t.fused_attention(attention + ".query_key_value", hidden, c.attention.bias, fused);
  t.matrix("attention.output", attention + ".dense", hidden, hidden, row, c.attention.output_bias, matrix);
  if (!c.shared_norm) t.layer_norm("feed_forward_norm", "post_attention_layernorm", hidden);
  t.matrix("feed_forward.up", "mlp.dense_h_to_4h", c.mlp.intermediate_size, hidden, column, true, matrix);
  t.matrix("feed_forward.down", "mlp.dense_4h_to_h", hidden, c.mlp.intermediate_size, row, true, matrix);
}

weight_table faster_transformer_table(const model_config& c) {
  using enum shard_axis;
  const weight_layout in_out{.transposed = true};
  table_builder t({"model."});
  const auto whole = [&](const char* ours, const char* theirs) {
    t.matrix(ours, "", c.tokens.vocab_size, c.hidden_size, vocabulary, false).sources = {theirs};
  };
  whole("embedding", "model.wte");
  if (c.positions.learned) t.add("positions", ".weight", "wpe", "", {c.positions.max, c.hidden_size}, none);
  if (c.embedding_norm) t.layer_norm("embedding_norm", "pre_decoder_layernorm", c.hidden_size);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("layers.", layer, "."));
    add_layer(t, c, "attention", in_out, 1);
  }
  t.enter("", "");
  if (c.final_norm) t.layer_norm("norm", "final_layernorm", c.hidden_size);
  if (c.family == "gptj") t.add("output", ".bias", "lm_head", ".bias", {c.tokens.vocab_size}, vocabulary);
  if (!c.embedding.tied) whole("output", "model.lm_head.weight");
  weight_table table = t.take();
  for (weight_spec& spec : table) {
    // GPT-NeoX's converter divides the biases behind the ranks' sums among the ranks.
    const bool divided = c.family == "gpt_neox" && (spec.name.ends_with("attention.output.bias") ||
                                                    spec.name.ends_with("feed_forward.down.bias"));
    for (weight_source& source : spec.sources) {
      source.layout.flat = true;
      source.layout.divided = divided;
    }
  }
  return table;
}

// Groups of query, key and value, which changed with Megatron-LM's checkpoint_version: whole matrices, single rows,
// heads.
int64_t megatron_groups(const model_config& c, checkpoint_format format) {
  if (format == checkpoint_format::megatron_0) return 1;
  return format == checkpoint_format::megatron_1 ? c.hidden_size : c.attention.num_heads;
}

weight_table megatron_table(const model_config& c, checkpoint_format format) {
  using enum shard_axis;
  table_builder t({"language_model.encoder."});
  t.matrix("embedding", "", c.tokens.vocab_size, c.hidden_size, vocabulary, false).sources = {megatron_embedding};
  t.add("positions", ".weight", "", "", {c.positions.max, c.hidden_size}, none).sources = {
      "language_model.embedding.position_embeddings.weight"};
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat("layers.", layer, "."));
    add_layer(t, c, "self_attention", {}, megatron_groups(c, format));
  }
  t.enter("", "");
  t.layer_norm("norm", "final_layernorm", c.hidden_size);
  if (!c.embedding.tied)
    t.matrix("output", "", c.tokens.vocab_size, c.hidden_size, vocabulary, false).sources = {
        "language_model.output_layer.weight"};
  return t.take();
}

}  // namespace

bool is_saved_by_ranks(checkpoint_format format) {
  return format == checkpoint_format::faster_transformer || io::is_megatron(format);
}

model_config gpt_config_by_ranks(const io::checkpoint& source) {
  return source.format() == checkpoint_format::faster_transformer ? from_faster_transformer(source)
                                                                  : from_megatron(source);
}

weight_table gpt_weights_by_ranks(const model_config& config, checkpoint_format format) {
  return format == checkpoint_format::faster_transformer ? faster_transformer_table(config)
                                                         : megatron_table(config, format);
}

}  // namespace ft::arch
