// A configuration for people to read: the flat keys of ft_model_config, which never change their names.
#include "arch/config/config.h"

#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "arch/config/config_put.h"

namespace ft::arch {
namespace {

// Of which models a key tells.
enum shown : uint8_t { decoders = 1, encoders = 2, encoder_decoders = 4, labelled = 8, all = 7 };

uint8_t kind_of(const model_config& c) {
  const uint8_t kind = c.is_encoder_decoder ? encoder_decoders : c.causal ? decoders : encoders;
  return kind | (c.head.num_labels ? labelled : 0);
}

struct public_key {
  std::string_view field;  // by its path in the configuration
  const char* key;
  uint8_t of;
};

constexpr public_key public_keys[] = {
    {"architecture", "architecture", all},
    {"family", "family", all},
    {"model_type", "model_type", all},
    {"checkpoint_dtype", "checkpoint_dtype", all},
    {"is_encoder_decoder", "is_encoder_decoder", all},

    {"hidden_size", "hidden_size", all},
    {"num_layers", "num_layers", all},
    {"attention.num_heads", "num_heads", all},
    {"attention.num_kv_heads", "num_kv_heads", all},
    {"attention.head_dim", "head_dim", all},
    {"attention.scale", "attention_scale", all},
    {"attention.softcap", "attention_softcap", decoders},
    {"attention.bias", "attention_bias", all},
    {"attention.query_key_norm", "query_key_norm", decoders},
    {"mlp.intermediate_size", "intermediate_size", all},
    {"mlp.activation", "activation", all},
    {"mlp.bias", "feed_forward_bias", all},
    {"norm.kind", "norm", all},
    {"norm.epsilon", "norm_epsilon", all},
    {"block", "block", decoders},
    {"positions.max", "max_positions", all},
    {"positions.relative_buckets", "relative_buckets", encoder_decoders},
    {"positions.relative_max_distance", "relative_max_distance", encoder_decoders},

    {"tokens.vocab_size", "vocab_size", all},
    {"tokens.encoder_vocab_size", "encoder_vocab_size", encoder_decoders},
    {"tokens.type_vocab_size", "type_vocab_size", encoders},
    {"tokens.bos_id", "bos_token_id", all},
    {"tokens.pad_id", "pad_token_id", all},
    {"tokens.stop_ids", "stop_token_ids", all},
    {"tokens.decoder_start_id", "decoder_start_token_id", encoder_decoders},
    {"tokens.forced_bos_id", "forced_bos_token_id", encoder_decoders},
    {"tokens.forced_eos_ids", "forced_eos_token_ids", encoder_decoders},

    {"embedding.tied", "tied_embeddings", all},
    {"embedding.scale", "embedding_scale", decoders | encoder_decoders},

    {"encoder.num_layers", "num_encoder_layers", encoder_decoders},
    {"encoder.attention.num_heads", "num_encoder_heads", encoder_decoders},
    {"encoder.mlp.intermediate_size", "encoder_intermediate_size", encoder_decoders},

    {"head.kind", "head", all},
    {"head.input_scale", "output_scale", encoder_decoders},
    {"head.logits_softcap", "logits_softcap", decoders},
    {"head.has_pooler", "has_pooler", encoders},
    {"head.num_labels", "num_labels", labelled},
    {"head.label_names", "label_names", labelled},
    {"pooling.kind", "pooling", all},
    {"pooling.normalize", "pooling_normalize", all},
};

// The shortest decimal that means the same float32: 1e-05, not 9.999999747378752e-06.
double readable(float value) {
  std::array<char, 32> text{};
  std::to_chars(text.data(), text.data() + text.size(), value);
  double result = 0;
  std::from_chars(text.data(), text.data() + text.size(), result);
  return result;
}

// What no one field says of a decoder: its positions with their rotary tables (Gemma 3 has two), and the windows of the
// layers.
void add_decoder_keys(io::json& out, const model_config& config) {
  const positions_config& positions = config.positions;
  if (!positions.rotary.empty()) {
    const rotary_config& first = positions.rotary.front();
    out["rotary_dim"] = positions.rotary_dim();
    out["rope_theta"] = first.theta;
    out["rope_scaling"] = first.scaling;
    if (positions.rotary.size() > 1) out["rope_local_theta"] = positions.rotary[1].theta;
  }
  out["positions"] = positions.learned                 ? "learned"
                     : !positions.rotary.empty()       ? "rotary"
                     : !positions.alibi_slopes.empty() ? "alibi"
                                                       : "none";
  out["embedding_size"] = config.output_size();
  int64_t window = 0, sliding = 0;
  for (const layer_config& layer : config.layers) {
    if (!layer.window) continue;
    window = layer.window;
    ++sliding;
  }
  out["sliding_window"] = window;
  out["num_sliding_layers"] = sliding;
}

}  // namespace

io::json_ptr model_config::to_json() const {
  io::json_ptr tree = io::make_json();
  io::json& out = *tree;
  const uint8_t kind = kind_of(*this);
  visit_values(*this, [&](std::string_view path, const auto& field) {
    for (const public_key& k : public_keys) {
      if (k.field != path || !(k.of & kind)) continue;
      if constexpr (std::is_same_v<decltype(field), const float&>)
        out[k.key] = readable(field);
      else
        put_json(out[k.key], field);
    }
  });
  if (kind & decoders) add_decoder_keys(out, *this);
  if (kind & encoder_decoders) out["gated_feed_forward"] = mlp.gated();
  return tree;
}

}  // namespace ft::arch
