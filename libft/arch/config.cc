#include "arch/config.h"

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

// Positions: the rotary tables (Gemma 3 has two) and the windows of the layers.
void add_decoder_keys(io::json& out, const model_config& config) {
  if (!config.rotary.empty()) {
    const rotary_config& first = config.rotary.front();
    out["rotary_dim"] = config.rotary_dim();
    out["rope_theta"] = first.theta;
    out["rope_scaling"] = first.scaling;
    if (config.rotary.size() > 1) out["rope_local_theta"] = config.rotary[1].theta;
  }
  int64_t window = 0, sliding = 0;
  for (const layer_config& layer : config.layers) {
    if (!layer.window) continue;
    window = layer.window;
    ++sliding;
  }
  out["sliding_window"] = window;
  out["num_sliding_layers"] = sliding;
  out["query_key_norm"] = config.query_key_norm;
  out["attention_softcap"] = config.attention_softcap;
  out["logits_softcap"] = config.logits_softcap;
  out["embedding_scale"] = config.embedding_scale;
}

void add_encoder_keys(io::json& out, const model_config& config) {
  out["type_vocab_size"] = config.type_vocab_size;
  out["has_pooler"] = config.has_pooler;
}

}  // namespace

io::json model_config::to_json() const {
  io::json out = {
      {"architecture", architecture},
      {"family", family},
      {"model_type", model_type},
      {"head", text(head)},
      {"vocab_size", vocab_size},
      {"hidden_size", hidden_size},
      {"num_layers", num_layers},
      {"num_heads", num_heads},
      {"num_kv_heads", num_kv_heads},
      {"head_dim", head_dim},
      {"intermediate_size", intermediate_size},
      {"max_positions", max_positions},
      {"activation", text(activation)},
      {"norm", norm == norm_kind::rms ? "rms_norm" : "layer_norm"},
      {"norm_epsilon", norm_epsilon},
      {"attention_scale", attention_scale},
      {"attention_bias", attention_bias},
      {"feed_forward_bias", feed_forward_bias},
      {"tied_embeddings", tied_embeddings},
      {"pooling", text(pooling)},
      {"pooling_normalize", pooling_normalize},
      {"checkpoint_dtype", checkpoint_dtype},
      {"stop_token_ids", stop_token_ids},
      {"bos_token_id", bos_token_id},
      {"pad_token_id", pad_token_id},
  };
  if (num_labels) {
    out["num_labels"] = num_labels;
    out["label_names"] = label_names;
  }
  if (causal)
    add_decoder_keys(out, *this);
  else
    add_encoder_keys(out, *this);
  return out;
}

}  // namespace ft::arch
