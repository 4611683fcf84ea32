// Every field of a configuration by its name, for what must not miss one: a manifest keeps a model's whole
// configuration (arch/config_json.h). Whoever adds a field to arch/config.h adds it here; a test counts them.
#pragma once

#include "arch/config.h"

namespace ft::arch {

// visit(name, field) for each field; `Config` may be const.
template <class Config, class Visit>
void visit_rotary_fields(Config& c, Visit&& visit) {
  visit("inverse_frequency", c.inverse_frequency);
  visit("attention_factor", c.attention_factor);
  visit("style", c.style);
  visit("theta", c.theta);
  visit("scaling", c.scaling);
}

template <class Config, class Visit>
void visit_layer_fields(Config& c, Visit&& visit) {
  visit("window", c.window);
  visit("rotary", c.rotary);
}

template <class Config, class Visit>
void visit_model_fields(Config& c, Visit&& visit) {
  visit("family", c.family);
  visit("architecture", c.architecture);
  visit("model_type", c.model_type);
  visit("head", c.head);
  visit("causal", c.causal);

  visit("vocab_size", c.vocab_size);
  visit("hidden_size", c.hidden_size);
  visit("num_layers", c.num_layers);
  visit("num_heads", c.num_heads);
  visit("num_kv_heads", c.num_kv_heads);
  visit("head_dim", c.head_dim);
  visit("intermediate_size", c.intermediate_size);
  visit("max_positions", c.max_positions);

  visit("activation", c.activation);
  visit("norm", c.norm);
  visit("norm_epsilon", c.norm_epsilon);
  visit("norm_weight_offset", c.norm_weight_offset);
  visit("embedding_scale", c.embedding_scale);
  visit("attention_scale", c.attention_scale);
  visit("attention_softcap", c.attention_softcap);
  visit("logits_softcap", c.logits_softcap);

  visit("tied_embeddings", c.tied_embeddings);
  visit("attention_bias", c.attention_bias);
  visit("attention_output_bias", c.attention_output_bias);
  visit("feed_forward_bias", c.feed_forward_bias);
  visit("query_key_norm", c.query_key_norm);
  visit("sandwich_norm", c.sandwich_norm);

  visit("layers", c.layers);
  visit("rotary", c.rotary);

  visit("type_vocab_size", c.type_vocab_size);
  visit("position_offset", c.position_offset);
  visit("has_pooler", c.has_pooler);
  visit("classifier_activation", c.classifier_activation);
  visit("num_labels", c.num_labels);
  visit("label_names", c.label_names);
  visit("pooling", c.pooling);
  visit("pooling_normalize", c.pooling_normalize);

  visit("checkpoint_dtype", c.checkpoint_dtype);
  visit("stop_token_ids", c.stop_token_ids);
  visit("bos_token_id", c.bos_token_id);
  visit("pad_token_id", c.pad_token_id);
}

}  // namespace ft::arch
