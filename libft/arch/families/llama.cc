// The Llama line (arXiv:2302.13971): pre-norm decoders with RMSNorm, rotary positions, grouped queries and gated
// feed-forwards. One weight table, driven by the configuration, covers Llama 1 to 3, SmolLM2, Mistral
// (arXiv:2310.06825), Qwen2 (arXiv:2407.10671), Qwen3 (arXiv:2505.09388) and the text models of Gemma 1 to 3
// (arXiv:2403.08295, arXiv:2408.00118, arXiv:2503.19786). The config maps are in llama_config.cc.
#include "arch/families/families.h"
#include "arch/families/llama_config.h"
#include "arch/networks/decoder.h"
#include "arch/weights/table_builder.h"

namespace ft::arch {
namespace {

weight_table llama_weights(const model_config& c, io::checkpoint_format format) {
  using enum shard_axis;
  const bool gguf = format == io::checkpoint_format::gguf;
  const auto named = [&](const char* in_gguf, const char* in_hugging_face) { return gguf ? in_gguf : in_hugging_face; };
  const int64_t hidden = c.hidden_size, width = c.mlp.intermediate_size;
  const int64_t queries = c.attention.num_heads * c.attention.head_dim,
                keys = c.attention.num_kv_heads * c.attention.head_dim;

  // Saved with a head, without one, and as the text half of a model that also sees.
  const std::vector<std::string> prefixes = {"model.", "", "model.language_model.", "language_model.model."};
  table_builder t(gguf ? std::vector<std::string>{""} : prefixes);
  const std::vector<std::string> heads = {"lm_head.weight", "language_model.lm_head.weight"};
  t.vocabulary(c, named("token_embd", "embed_tokens"), hidden,
               gguf ? std::vector<std::string>{"output.weight"} : heads);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat(named("blk.", "layers."), layer, "."));
    t.rms_norm("attention_norm", named("attn_norm", "input_layernorm"), hidden);
    t.matrix("attention.query", named("attn_q", "self_attn.q_proj"), queries, hidden, column, c.attention.bias);
    t.matrix("attention.key", named("attn_k", "self_attn.k_proj"), keys, hidden, column, c.attention.bias);
    t.matrix("attention.value", named("attn_v", "self_attn.v_proj"), keys, hidden, column, c.attention.bias);
    t.matrix("attention.output", named("attn_output", "self_attn.o_proj"), hidden, queries, row,
             c.attention.output_bias);
    if (c.attention.query_key_norm) {
      t.rms_norm("attention.query_norm", named("attn_q_norm", "self_attn.q_norm"), c.attention.head_dim);
      t.rms_norm("attention.key_norm", named("attn_k_norm", "self_attn.k_norm"), c.attention.head_dim);
    }
    if (c.block == block_kind::sandwich) {
      t.rms_norm("attention_post_norm", named("post_attention_norm", "post_attention_layernorm"), hidden);
      t.rms_norm("feed_forward_norm", named("ffn_norm", "pre_feedforward_layernorm"), hidden);
      t.rms_norm("feed_forward_post_norm", named("post_ffw_norm", "post_feedforward_layernorm"), hidden);
    } else {
      t.rms_norm("feed_forward_norm", named("ffn_norm", "post_attention_layernorm"), hidden);
    }
    t.matrix("feed_forward.gate", named("ffn_gate", "mlp.gate_proj"), width, hidden, column, c.mlp.bias);
    t.matrix("feed_forward.up", named("ffn_up", "mlp.up_proj"), width, hidden, column, c.mlp.bias);
    t.matrix("feed_forward.down", named("ffn_down", "mlp.down_proj"), hidden, width, row, c.mlp.bias);
  }
  t.enter("", "");
  t.rms_norm("norm", named("output_norm", "norm"), hidden);
  if (gguf) {  // Llama 3's frequency factors; the config map has read them
    weight_spec& factors = t.add("rotary", ".factors", "rope_freqs", ".weight", {c.positions.rotary_dim() / 2}, none);
    factors.required = false;
  }
  return t.take();
}

}  // namespace

family llama_family() {
  return {.name = "llama",
          .hugging_face = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text"},
          .gguf = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"},
          .config = llama_config,
          .weights = llama_weights,
          .build = build_decoder};
}

}  // namespace ft::arch
