// Reads the configuration of a model of the Llama line from Hugging Face's config.json or GGUF metadata. Defaults are
// those of transformers' configuration classes, since files leave out what equals them.
#include "arch/families/llama_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "arch/config/config_reading.h"
#include "arch/config/rope_scaling.h"
#include "arch/families/decoder_config.h"
#include "core/status.h"

namespace ft::arch {
namespace {

// How the models of the line differ beyond what their configurations say.
struct variant {
  std::string_view type;
  bool tied;              // default of tie_word_embeddings
  int64_t head_dim;       // default; 0: hidden_size / num_heads
  int64_t max_positions;  // default
  bool bias_always;       // on query, key and value whatever the configuration says
  bool query_key_norm;
  int gemma;  // generation; 0 for the others
};

constexpr variant variants[] = {
    {"llama", false, 0, 2048, false, false, 0},    {"mistral", false, 0, 131072, false, false, 0},
    {"qwen2", false, 0, 32768, true, false, 0},    {"qwen3", false, 128, 32768, false, true, 0},
    {"gemma", true, 256, 8192, false, false, 1},   {"gemma2", true, 256, 8192, false, false, 2},
    {"gemma3", true, 256, 131072, false, true, 3},
};

const variant& variant_of(std::string_view type) {
  if (type == "gemma3_text") type = "gemma3";
  for (const variant& v : variants)
    if (v.type == type) return v;
  fail(FT_ERROR_INTERNAL, "the Llama line has no variant ", type);
}

// Gemma's layers alternate: every `period`-th one attends to everything, the others to a window.
int64_t gemma_period(int generation) { return generation == 2 ? 2 : 6; }

// What follows from the variant in every format.
model_config start(const variant& v, std::string_view type, const io::checkpoint& source) {
  model_config c;
  c.family = "llama";
  c.model_type = std::string(type);
  c.causal = true;
  c.norm.kind = norm_kind::rms;
  c.attention.query_key_norm = v.query_key_norm;
  c.block = v.gemma >= 2 ? block_kind::sandwich : block_kind::pre_norm;
  c.mlp.kind = mlp_kind::gated;
  c.checkpoint_dtype = most_common_dtype(source);
  return c;
}

// ---------------------------------------------------------------------------------------------- Hugging Face

// Which layers see a window only: by `layer_types` where given, else by each model's own older keys.
void read_windows(model_config& c, const variant& v, const io::json_reader& config) {
  c.layers.resize(static_cast<size_t>(c.num_layers));
  const bool qwen = v.type.starts_with("qwen");
  int64_t window = 0;
  if (v.type == "mistral" || v.gemma >= 2)  // null means none, and absent the default
    window = config.value().contains("sliding_window") && !config.has("sliding_window")
                 ? 0
                 : read_size(config, "sliding_window", 4096);
  if (qwen && config.boolean("use_sliding_window", false)) window = read_size(config, "sliding_window", 4096);

  const io::json* types = v.type == "mistral" ? nullptr : config.find("layer_types");
  if (types && (!types->is_array() || types->size() != c.layers.size()))
    fail(FT_ERROR_CHECKPOINT, config.file(), ": layer_types is not a list of ", c.num_layers, " names");
  const int64_t period = v.gemma ? read_size(config, "sliding_window_pattern", gemma_period(v.gemma)) : 0;
  const int64_t first_sliding = qwen ? config.integer("max_window_layers", 28) : 0;
  for (size_t i = 0; i < c.layers.size(); ++i) {
    bool sliding = window != 0;
    if (types)
      sliding = (*types)[i] == "sliding_attention";
    else if (period)
      sliding = (static_cast<int64_t>(i) + 1) % period != 0;
    else if (qwen)
      sliding = static_cast<int64_t>(i) >= first_sliding;
    if (types && !sliding && (*types)[i] != "full_attention")
      fail(FT_ERROR_UNSUPPORTED, config.file(), ": layer_types holds ", (*types)[i].dump(),
           "; full_attention and sliding_attention are supported");
    c.layers[i] = {.window = sliding ? window : 0, .rotary = v.gemma == 3 && sliding ? 1 : 0};
  }
}

int64_t rotary_dim_of(const model_config& c, const io::json_reader& config) {
  double part = config.number("partial_rotary_factor", 1);
  if (const auto parameters = config.object("rope_parameters"))
    part = parameters->number("partial_rotary_factor", part);
  const auto dim = static_cast<int64_t>(static_cast<double>(c.attention.head_dim) * (part > 0 && part <= 1 ? part : 0));
  check_rotary_dim(dim, c.attention.head_dim, config.file());
  return dim;
}

void read_rotary(model_config& c, const variant& v, const io::json_reader& config) {
  const int64_t dim = rotary_dim_of(c, config);
  if (v.gemma != 3) {
    c.positions.rotary = {make_rotary(read_rope(config, "full_attention", 10000, c.positions.max), dim)};
    return;
  }
  c.positions.rotary = {make_rotary(read_rope(config, "full_attention", 1e6, c.positions.max), dim)};
  const auto parameters = config.object("rope_parameters");
  if (parameters && parameters->has("sliding_attention")) {
    c.positions.rotary.push_back(make_rotary(read_rope(config, "sliding_attention", 10000, c.positions.max), dim));
  } else {  // older files scale the full layers' only
    c.positions.rotary.push_back(make_rotary({.theta = config.number("rope_local_base_freq", 10000)}, dim));
  }
}

void read_gemma(model_config& c, const variant& v, const io::json_reader& config) {
  if (config.boolean("use_bidirectional_attention", false))
    fail(FT_ERROR_UNSUPPORTED, config.file(), ": use_bidirectional_attention is not supported");
  c.norm.weight_offset = 1;
  c.embedding.scale = static_cast<float>(std::sqrt(static_cast<double>(c.hidden_size)));
  // Gemma 1's released files say "gelu" and mean the approximation.
  if (c.mlp.activation == activation_kind::gelu && v.gemma == 1) c.mlp.activation = activation_kind::gelu_tanh;
  if (v.gemma == 1) return;
  const double scalar = config.number("query_pre_attn_scalar", 256);
  if (!(scalar > 0)) fail(FT_ERROR_CHECKPOINT, config.file(), ": query_pre_attn_scalar is ", scalar, ", not above 0");
  c.attention.scale = static_cast<float>(1 / std::sqrt(scalar));
  const auto cap = [&](const char* key, double otherwise) {
    const bool none = config.value().contains(key) && !config.has(key);
    return none ? 0.0f : static_cast<float>(config.number(key, v.gemma == 2 ? otherwise : 0));
  };
  c.attention.softcap = v.gemma == 2 ? cap("attn_logit_softcapping", 50) : 0;  // Gemma 3 has the key and ignores it
  c.head.logits_softcap = cap("final_logit_softcapping", 30);
}

model_config from_hugging_face(const io::checkpoint& source) {
  const io::json_reader outer = source.config();
  const std::string type = outer.string("model_type");
  const variant& v = variant_of(type);
  const std::optional<io::json_reader> text = outer.object("text_config");  // of a model that also sees
  const io::json_reader config = text.value_or(outer);

  model_config c = start(v, type, source);
  const bool tied = outer.boolean("tie_word_embeddings", config.boolean("tie_word_embeddings", v.tied));
  read_decoder_head(c, outer, source, tied, "lm_head.weight", {"model.embed_tokens.weight"});

  c.tokens.vocab_size = read_size(config, "vocab_size");
  c.hidden_size = read_size(config, "hidden_size");
  c.num_layers = read_layer_count(config, "num_hidden_layers");
  c.attention.num_heads = read_size(config, "num_attention_heads");
  c.attention.num_kv_heads = read_size(config, "num_key_value_heads", c.attention.num_heads);
  c.attention.head_dim = read_size(
      config, "head_dim", v.head_dim ? v.head_dim : std::max<int64_t>(1, c.hidden_size / c.attention.num_heads));
  c.mlp.intermediate_size = read_size(config, "intermediate_size");
  c.positions.max = read_size(config, "max_position_embeddings", v.max_positions);
  check_heads(c, source);

  c.mlp.activation = v.gemma >= 2 ? read_activation(config, "hidden_activation", "gelu_pytorch_tanh")
                                  : read_activation(config, "hidden_act", v.gemma ? "gelu_pytorch_tanh" : "silu");
  c.norm.epsilon = static_cast<float>(config.number("rms_norm_eps", 1e-6));
  c.attention.output_bias = config.boolean("attention_bias", false);
  c.attention.bias = c.attention.output_bias || v.bias_always;
  if (v.bias_always || v.type == "mistral") c.attention.output_bias = false;
  if (v.type == "mistral") c.attention.bias = false;
  c.mlp.bias = v.type == "llama" && config.boolean("mlp_bias", false);
  c.attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.attention.head_dim)));
  if (v.gemma) read_gemma(c, v, config);
  read_windows(c, v, config);
  read_rotary(c, v, config);
  read_special_tokens(c, source);
  read_sentence_modules(c, source);
  return c;
}

// ------------------------------------------------------------------------------------------------------ GGUF

// Frequencies of Llama 3 are stored as divisors of the plain ones.
void divide_frequencies(rotary_config& rotary, const io::checkpoint& source) {
  const io::stored_tensor* factors = source.find("rope_freqs.weight");
  if (!factors) return;
  if (factors->data.type != dtype::f32 || factors->data.size() != static_cast<int64_t>(rotary.inverse_frequency.size()))
    fail(FT_ERROR_CHECKPOINT, source.source(), ": rope_freqs.weight is not ", rotary.inverse_frequency.size(),
         " float32 numbers");
  for (size_t i = 0; i < rotary.inverse_frequency.size(); ++i) {
    float factor;
    std::memcpy(&factor, factors->data.as<const char>() + i * sizeof factor, sizeof factor);
    if (!(factor > 0))
      fail(FT_ERROR_CHECKPOINT, source.source(), ": rope_freqs.weight holds ", factor, ", not above 0");
    rotary.inverse_frequency[i] /= factor;
  }
  rotary.scaling = "factors";
}

void read_gguf_positions(model_config& c, const variant& v, const io::checkpoint& source) {
  const io::gguf_metadata& m = source.metadata();
  const std::string type = c.model_type;
  const int64_t dim = read_size(m, type + ".rope.dimension_count", c.attention.head_dim);
  check_rotary_dim(dim, c.attention.head_dim, source.source());
  c.positions.rotary = {make_rotary(read_rope(m, type, c.positions.max), dim)};
  divide_frequencies(c.positions.rotary.front(), source);
  // GGUF keeps the rows of Llama's query and key in Meta's order, in which neighbours are pairs.
  if (v.type == "llama") c.positions.rotary.front().style = rotary_style::interleaved;
  if (v.gemma == 3)
    c.positions.rotary.push_back(make_rotary({.theta = m.number(type + ".rope.freq_base_swa", 10000)}, dim));

  const int64_t window = m.integer(type + ".attention.sliding_window", v.gemma == 2 ? 4096 : 0);
  if (window < 0) fail(FT_ERROR_CHECKPOINT, source.source(), ": ", type, ".attention.sliding_window is ", window);
  c.layers.resize(static_cast<size_t>(c.num_layers));
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const bool full = v.gemma >= 2 && (static_cast<int64_t>(i) + 1) % gemma_period(v.gemma) == 0;
    c.layers[i] = {.window = full ? 0 : window, .rotary = v.gemma == 3 && !full ? 1 : 0};
  }
}

void read_gguf_gemma(model_config& c, const variant& v, const io::gguf_metadata& m) {
  c.embedding.scale = static_cast<float>(std::sqrt(static_cast<double>(c.hidden_size)));
  c.mlp.activation = activation_kind::gelu_tanh;
  // The file does not say query_pre_attn_scalar. It is head_dim, but hidden_size / num_heads in the two 27B models.
  const bool largest = (v.gemma == 2 && c.num_layers == 46) || (v.gemma == 3 && c.num_layers == 62);
  const int64_t scalar = largest ? c.hidden_size / c.attention.num_heads : c.attention.head_dim;
  c.attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(scalar)));
  if (v.gemma != 2) return;
  c.attention.softcap = static_cast<float>(m.number(c.model_type + ".attn_logit_softcapping", 50));
  c.head.logits_softcap = static_cast<float>(m.number(c.model_type + ".final_logit_softcapping", 30));
}

model_config from_gguf(const io::checkpoint& source) {
  const io::gguf_metadata& m = source.metadata();
  const std::string type = m.string("general.architecture", "");
  const variant& v = variant_of(type);
  const std::string at = type + ".";

  model_config c = start(v, type, source);
  c.architecture = type;
  c.head.kind = head_kind::causal_lm;
  c.embedding.tied = !source.find("output.weight");
  c.tokens.vocab_size = rows_of(source, "token_embd.weight");
  c.hidden_size = read_size(m, at + "embedding_length");
  c.num_layers = read_layer_count(m, at + "block_count");
  c.attention.num_heads = read_size(m, at + "attention.head_count");
  c.attention.num_kv_heads = read_size(m, at + "attention.head_count_kv", c.attention.num_heads);
  c.attention.head_dim =
      read_size(m, at + "attention.key_length", std::max<int64_t>(1, c.hidden_size / c.attention.num_heads));
  if (const int64_t value = m.integer(at + "attention.value_length", c.attention.head_dim);
      value != c.attention.head_dim)
    fail(FT_ERROR_UNSUPPORTED, source.source(), ": values of ", value, " elements beside keys of ",
         c.attention.head_dim, " are not supported");
  c.mlp.intermediate_size = read_size(m, at + "feed_forward_length");
  c.positions.max = read_size(m, at + "context_length", v.max_positions);
  check_heads(c, source);
  if (m.integer(at + "expert_count", 0) > 0)
    fail(FT_ERROR_UNSUPPORTED, source.source(), ": mixtures of experts are not supported");

  c.mlp.activation = activation_kind::silu;
  c.norm.epsilon = static_cast<float>(m.number(at + "attention.layer_norm_rms_epsilon", 1e-6));
  c.attention.bias = source.find("blk.0.attn_q.bias") != nullptr;
  c.attention.output_bias = source.find("blk.0.attn_output.bias") != nullptr;
  c.mlp.bias = source.find("blk.0.ffn_up.bias") != nullptr;
  c.attention.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(c.attention.head_dim)));
  if (v.gemma) read_gguf_gemma(c, v, m);
  read_gguf_positions(c, v, source);
  read_special_tokens(c, source);
  return c;
}

}  // namespace

model_config llama_config(const io::checkpoint& source) {
  return source.format() == io::checkpoint_format::gguf ? from_gguf(source) : from_hugging_face(source);
}

}  // namespace ft::arch
