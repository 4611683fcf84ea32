// Every field of a configuration by its name, for what must not miss one: a manifest keeps a model's whole
// configuration (arch/config/config_json.h). Whoever adds a field to arch/config/config.h adds it here; a test counts
// them.
#pragma once

#include "arch/config/config.h"

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
  visit("attention_scale", c.attention_scale);
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

  visit("learned_positions", c.learned_positions);
  visit("position_offset", c.position_offset);
  visit("rotary", c.rotary);
  visit("alibi_slopes", c.alibi_slopes);

  visit("block", c.block);
  visit("gated_feed_forward", c.gated_feed_forward);
  visit("query_key_norm", c.query_key_norm);
  visit("shared_norm", c.shared_norm);
  visit("norm_weights", c.norm_weights);
  visit("embedding_norm", c.embedding_norm);
  visit("final_norm", c.final_norm);
  visit("embedding_size", c.embedding_size);
  visit("layers", c.layers);

  visit("is_encoder_decoder", c.is_encoder_decoder);
  visit("num_encoder_layers", c.num_encoder_layers);
  visit("num_encoder_heads", c.num_encoder_heads);
  visit("encoder_intermediate_size", c.encoder_intermediate_size);
  visit("encoder_vocab_size", c.encoder_vocab_size);
  visit("shared_embeddings", c.shared_embeddings);
  visit("decoder_start_token_id", c.decoder_start_token_id);
  visit("forced_bos_token_id", c.forced_bos_token_id);
  visit("forced_eos_token_ids", c.forced_eos_token_ids);
  visit("relative_buckets", c.relative_buckets);
  visit("relative_max_distance", c.relative_max_distance);
  visit("sinusoidal_positions", c.sinusoidal_positions);
  visit("output_scale", c.output_scale);

  visit("type_vocab_size", c.type_vocab_size);
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
