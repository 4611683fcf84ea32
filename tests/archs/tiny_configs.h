// Configurations of tiny models, in the words of config.json: the decoders in every scheme, encoders of any head, and
// encoder-decoders.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"

namespace ft::test {

inline std::string decoder(const char* type, const char* more) {
  return cat(R"({"model_type": ")", type, R"(", "architectures": ["TinyForCausalLM"], "vocab_size": 64,
    "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 128)",
             more, "}");
}

inline std::string encoder(const char* type, const char* architecture, const char* more = "") {
  return cat(R"({"model_type": ")", type, R"(", "architectures": [")", architecture, R"("], "vocab_size": 64,
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "dim": 32,
    "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "type_vocab_size": 2, "max_position_embeddings": 64)",
             more, "}");
}

inline const std::vector<std::string> decoders = {
    decoder("llama", R"(, "attention_bias": true, "mlp_bias": true)"),
    decoder("llama", R"(, "tie_word_embeddings": true, "rope_scaling": {"rope_type": "yarn", "factor": 4.0,
        "original_max_position_embeddings": 32})"),
    decoder("mistral", R"(, "sliding_window": 5)"),
    decoder("qwen2", R"(, "use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1)"),
    decoder("qwen3", ""),
    decoder("gemma2", R"(, "sliding_window": 5)"),
    decoder("gemma3_text", R"(, "sliding_window": 5, "sliding_window_pattern": 2)"),
    decoder("gpt2", R"(, "scale_attn_by_inverse_layer_idx": true)"),
    decoder("gptj", R"(, "rotary_dim": 4)"),
    decoder("gpt_neox", ""),
    decoder("gpt_neox", R"(, "use_parallel_residual": false, "attention_bias": false)"),
    decoder("opt", R"(, "ffn_dim": 48)"),
    decoder("opt", R"(, "ffn_dim": 48, "do_layer_norm_before": false, "word_embed_proj_dim": 24)"),
    decoder("opt", R"(, "ffn_dim": 48, "layer_norm_elementwise_affine": false)"),
    decoder("bloom", ""),
    decoder("bloom", R"(, "apply_residual_connection_post_layernorm": true, "n_head": 3, "n_embed": 33)"),
};

inline const std::vector<std::string> encoder_decoders = {
    R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 64, "d_model": 32, "d_kv": 8,
        "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4, "decoder_start_token_id": 0})",
    R"({"model_type": "mt5", "architectures": ["MT5ForConditionalGeneration"], "vocab_size": 64, "d_model": 32,
        "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": false})",
    R"({"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "vocab_size": 64, "d_model": 32,
        "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48, "decoder_ffn_dim": 64, "max_position_embeddings": 64})",
    R"({"model_type": "mbart", "architectures": ["MBartForConditionalGeneration"], "vocab_size": 64, "d_model": 32,
        "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 8, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64, "scale_embedding": true})",
    R"({"model_type": "marian", "architectures": ["MarianMTModel"], "vocab_size": 64, "decoder_vocab_size": 72,
        "share_encoder_decoder_embeddings": false, "tie_word_embeddings": false, "d_model": 32, "encoder_layers": 2,
        "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48, "max_position_embeddings": 64, "decoder_start_token_id": 71})",
};

}  // namespace ft::test
