// Every field of a configuration by its name, for what must not miss one: manifests, JSON for people, checks. Whoever
// adds a field to arch/config/config.h adds it here; a test counts them.
#pragma once

#include <concepts>
#include <string>
#include <type_traits>

#include "arch/config/config.h"
#include "core/status.h"

namespace ft::arch {

template <class Config, class Struct>
concept some = std::same_as<std::remove_const_t<Config>, Struct>;

// visit_fields(c, visit): visit(name, field) for each field of a struct; it may be const.

void visit_fields(some<rotary_config> auto& c, auto&& visit) {
  visit("inverse_frequency", c.inverse_frequency);
  visit("attention_factor", c.attention_factor);
  visit("style", c.style);
  visit("theta", c.theta);
  visit("scaling", c.scaling);
}

void visit_fields(some<layer_config> auto& c, auto&& visit) {
  visit("window", c.window);
  visit("rotary", c.rotary);
  visit("attention_scale", c.attention_scale);
}

void visit_fields(some<attention_config> auto& c, auto&& visit) {
  visit("num_heads", c.num_heads);
  visit("num_kv_heads", c.num_kv_heads);
  visit("head_dim", c.head_dim);
  visit("scale", c.scale);
  visit("softcap", c.softcap);
  visit("bias", c.bias);
  visit("output_bias", c.output_bias);
  visit("query_key_norm", c.query_key_norm);
}

void visit_fields(some<mlp_config> auto& c, auto&& visit) {
  visit("kind", c.kind);
  visit("intermediate_size", c.intermediate_size);
  visit("activation", c.activation);
  visit("bias", c.bias);
}

void visit_fields(some<norm_config> auto& c, auto&& visit) {
  visit("kind", c.kind);
  visit("epsilon", c.epsilon);
  visit("weight_offset", c.weight_offset);
  visit("weights", c.weights);
}

void visit_fields(some<positions_config> auto& c, auto&& visit) {
  visit("max", c.max);
  visit("learned", c.learned);
  visit("sinusoidal", c.sinusoidal);
  visit("offset", c.offset);
  visit("rotary", c.rotary);
  visit("alibi_slopes", c.alibi_slopes);
  visit("relative_buckets", c.relative_buckets);
  visit("relative_max_distance", c.relative_max_distance);
}

void visit_fields(some<stack_config> auto& c, auto&& visit) {
  visit("hidden_size", c.hidden_size);
  visit("num_layers", c.num_layers);
  visit("block", c.block);
  visit("attention", c.attention);
  visit("mlp", c.mlp);
  visit("norm", c.norm);
  visit("shared_norm", c.shared_norm);
  visit("embedding_norm", c.embedding_norm);
  visit("final_norm", c.final_norm);
  visit("positions", c.positions);
  visit("layers", c.layers);
}

void visit_fields(some<tokens_config> auto& c, auto&& visit) {
  visit("vocab_size", c.vocab_size);
  visit("encoder_vocab_size", c.encoder_vocab_size);
  visit("type_vocab_size", c.type_vocab_size);
  visit("bos_id", c.bos_id);
  visit("pad_id", c.pad_id);
  visit("stop_ids", c.stop_ids);
  visit("decoder_start_id", c.decoder_start_id);
  visit("forced_bos_id", c.forced_bos_id);
  visit("forced_eos_ids", c.forced_eos_ids);
}

void visit_fields(some<embedding_config> auto& c, auto&& visit) {
  visit("size", c.size);
  visit("scale", c.scale);
  visit("tied", c.tied);
  visit("shared", c.shared);
}

void visit_fields(some<head_config> auto& c, auto&& visit) {
  visit("kind", c.kind);
  visit("input_scale", c.input_scale);
  visit("logits_softcap", c.logits_softcap);
  visit("has_pooler", c.has_pooler);
  visit("classifier_activation", c.classifier_activation);
  visit("num_labels", c.num_labels);
  visit("label_names", c.label_names);
}

void visit_fields(some<pooling_config> auto& c, auto&& visit) {
  visit("kind", c.kind);
  visit("normalize", c.normalize);
}

void visit_fields(some<model_config> auto& c, auto&& visit) {
  visit("family", c.family);
  visit("architecture", c.architecture);
  visit("model_type", c.model_type);
  visit("checkpoint_dtype", c.checkpoint_dtype);
  visit("causal", c.causal);
  visit("is_encoder_decoder", c.is_encoder_decoder);
  using stack =
      std::conditional_t<std::is_const_v<std::remove_reference_t<decltype(c)>>, const stack_config, stack_config>;
  visit_fields(static_cast<stack&>(c), visit);
  visit("tokens", c.tokens);
  visit("embedding", c.embedding);
  visit("encoder", c.encoder);
  visit("head", c.head);
  visit("pooling", c.pooling);
}

struct any_visit {
  void operator()(const char*, auto&) const {}
};

// A struct of the configuration, as against a value or a list.
template <class T>
concept has_fields = requires(T& c) { visit_fields(c, any_visit{}); };

// visit(path, field) for each field that is no struct itself: "attention.num_heads".
template <has_fields Config>
void visit_values(Config& c, auto&& visit, const std::string& at = {}) {
  visit_fields(c, [&](const char* name, auto& field) {
    const std::string path = at.empty() ? name : cat(at, ".", name);
    if constexpr (has_fields<decltype(field)>)
      visit_values(field, visit, path);
    else
      visit(path, field);
  });
}

}  // namespace ft::arch
