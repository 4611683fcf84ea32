#include "arch/config/config.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

namespace ft::arch {
namespace {

const char* text(head_kind kind) {
  switch (kind) {
    case head_kind::none:
      return "none";
    case head_kind::causal_lm:
      return "causal_lm";
    case head_kind::masked_lm:
      return "masked_lm";
    case head_kind::sequence_classification:
      return "sequence_classification";
    case head_kind::token_classification:
      return "token_classification";
  }
  return "";
}

const char* text(activation_kind kind) {
  switch (kind) {
    case activation_kind::none:
      return "none";
    case activation_kind::relu:
      return "relu";
    case activation_kind::gelu:
      return "gelu";
    case activation_kind::gelu_tanh:
      return "gelu_tanh";
    case activation_kind::silu:
      return "silu";
    case activation_kind::tanh:
      return "tanh";
  }
  return "";
}

const char* text(block_kind kind) {
  switch (kind) {
    case block_kind::pre_norm:
      return "pre_norm";
    case block_kind::sandwich:
      return "sandwich";
    case block_kind::parallel:
      return "parallel";
    case block_kind::post_norm:
      return "post_norm";
    case block_kind::normed_residual:
      return "normed_residual";
  }
  return "";
}

const char* text(pool_kind kind) {
  switch (kind) {
    case pool_kind::mean:
      return "mean";
    case pool_kind::first:
      return "cls";
    case pool_kind::last:
      return "last";
    case pool_kind::max:
      return "max";
  }
  return "";
}

// The shortest decimal that means the same float32: 1e-05, not 9.999999747378752e-06.
double readable(float value) {
  std::array<char, 32> text{};
  std::to_chars(text.data(), text.data() + text.size(), value);
  double result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

// Positions: the rotary tables (Gemma 3 has two) and the windows of the layers.
void add_decoder_keys(io::json& out, const model_config& config) {
  if (!config.rotary.empty()) {
    const rotary_config& first = config.rotary.front();
    out["rotary_dim"] = config.rotary_dim();
    out["rope_theta"] = first.theta;
    out["rope_scaling"] = first.scaling;
    if (config.rotary.size() > 1) out["rope_local_theta"] = config.rotary[1].theta;
  }
  out["positions"] = config.learned_positions       ? "learned"
                     : !config.rotary.empty()       ? "rotary"
                     : !config.alibi_slopes.empty() ? "alibi"
                                                    : "none";
  out["block"] = text(config.block);
  out["embedding_size"] = config.output_size();
  int64_t window = 0, sliding = 0;
  for (const layer_config& layer : config.layers) {
    if (!layer.window) continue;
    window = layer.window;
    ++sliding;
  }
  out["sliding_window"] = window;
  out["num_sliding_layers"] = sliding;
  out["query_key_norm"] = config.query_key_norm;
  out["attention_softcap"] = readable(config.attention_softcap);
  out["logits_softcap"] = readable(config.logits_softcap);
  out["embedding_scale"] = readable(config.embedding_scale);
}

void add_encoder_keys(io::json& out, const model_config& config) {
  out["type_vocab_size"] = config.type_vocab_size;
  out["has_pooler"] = config.has_pooler;
}

// A vector of numbers or strings, without temporaries that would allocate when destroyed (io/text/json.h says why).
template <class T>
void add_list(io::json& out, const char* key, const std::vector<T>& values) {
  io::json& list = out[key] = io::json::value_t::array;
  for (const T& value : values) list.push_back(value);
}

// What an encoder-decoder has twice, how its answers begin and end, and T5's bias.
void add_encoder_decoder_keys(io::json& out, const model_config& config) {
  out["num_encoder_layers"] = config.num_encoder_layers;
  out["num_encoder_heads"] = config.num_encoder_heads;
  out["encoder_intermediate_size"] = config.encoder_intermediate_size;
  out["encoder_vocab_size"] = config.encoder_vocab_size;
  out["decoder_start_token_id"] = config.decoder_start_token_id;
  out["forced_bos_token_id"] = config.forced_bos_token_id;
  add_list(out, "forced_eos_token_ids", config.forced_eos_token_ids);
  out["relative_buckets"] = config.relative_buckets;
  out["relative_max_distance"] = config.relative_max_distance;
  out["gated_feed_forward"] = config.gated_feed_forward;
  out["embedding_scale"] = readable(config.embedding_scale);
  out["output_scale"] = readable(config.output_scale);
}

}  // namespace

io::json_ptr model_config::to_json() const {
  io::json_ptr tree = io::make_json();
  io::json& out = *tree;
  out["architecture"] = architecture;
  out["family"] = family;
  out["model_type"] = model_type;
  out["head"] = text(head);
  out["vocab_size"] = vocab_size;
  out["hidden_size"] = hidden_size;
  out["num_layers"] = num_layers;
  out["num_heads"] = num_heads;
  out["num_kv_heads"] = num_kv_heads;
  out["head_dim"] = head_dim;
  out["intermediate_size"] = intermediate_size;
  out["max_positions"] = max_positions;
  out["activation"] = text(activation);
  out["norm"] = norm == norm_kind::rms ? "rms_norm" : "layer_norm";
  out["norm_epsilon"] = readable(norm_epsilon);
  out["attention_scale"] = readable(attention_scale);
  out["attention_bias"] = attention_bias;
  out["feed_forward_bias"] = feed_forward_bias;
  out["tied_embeddings"] = tied_embeddings;
  out["pooling"] = text(pooling);
  out["pooling_normalize"] = pooling_normalize;
  out["checkpoint_dtype"] = checkpoint_dtype;
  add_list(out, "stop_token_ids", stop_token_ids);
  out["bos_token_id"] = bos_token_id;
  out["pad_token_id"] = pad_token_id;
  if (num_labels) {
    out["num_labels"] = num_labels;
    add_list(out, "label_names", label_names);
  }
  out["is_encoder_decoder"] = is_encoder_decoder;
  if (is_encoder_decoder)
    add_encoder_decoder_keys(out, *this);
  else if (causal)
    add_decoder_keys(out, *this);
  else
    add_encoder_keys(out, *this);
  return tree;
}

}  // namespace ft::arch
