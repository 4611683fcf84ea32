// The Llama line (arXiv:2302.13971): pre-norm decoders with RMSNorm, rotary positions, grouped queries and gated
// feed-forwards. One recipe, driven by the configuration, runs Llama 1 to 3, SmolLM2, Mistral (arXiv:2310.06825),
// Qwen2 (arXiv:2407.10671), Qwen3 (arXiv:2505.09388) and the text models of Gemma 1 to 3 (arXiv:2403.08295,
// arXiv:2408.00118, arXiv:2503.19786). The config maps are in llama_config.cc.
#include <array>

#include "arch/families.h"
#include "arch/llama_config.h"
#include "arch/table_builder.h"
#include "arch/weight_loader.h"
#include "nn/attention.h"
#include "nn/feed_forward.h"
#include "ops/elementwise.h"
#include "ops/gguf_blocks.h"

namespace ft::arch {
namespace {

weight_table llama_weights(const model_config& c, io::checkpoint_format format) {
  using enum shard_axis;
  const bool gguf = format == io::checkpoint_format::gguf;
  const auto named = [&](const char* in_gguf, const char* in_hugging_face) { return gguf ? in_gguf : in_hugging_face; };
  const int64_t hidden = c.hidden_size, width = c.intermediate_size;
  const int64_t queries = c.num_heads * c.head_dim, keys = c.num_kv_heads * c.head_dim;

  // Saved with a head, without one, and as the text half of a model that also sees.
  const std::vector<std::string> prefixes = {"model.", "", "model.language_model.", "language_model.model."};
  table_builder t(gguf ? std::vector<std::string>{""} : prefixes);
  weight_spec& embedding =
      t.matrix("embedding", named("token_embd", "embed_tokens"), c.vocab_size, hidden, vocabulary, false);
  if (c.tied_embeddings) embedding.sources.push_back("lm_head.weight");  // where some files keep the shared matrix
  for (int64_t layer = 0; layer < c.num_layers; ++layer) {
    t.enter(cat("layers.", layer, "."), cat(named("blk.", "layers."), layer, "."));
    t.rms_norm("attention_norm", named("attn_norm", "input_layernorm"), hidden);
    t.matrix("attention.query", named("attn_q", "self_attn.q_proj"), queries, hidden, column, c.attention_bias);
    t.matrix("attention.key", named("attn_k", "self_attn.k_proj"), keys, hidden, column, c.attention_bias);
    t.matrix("attention.value", named("attn_v", "self_attn.v_proj"), keys, hidden, column, c.attention_bias);
    t.matrix("attention.output", named("attn_output", "self_attn.o_proj"), hidden, queries, row,
             c.attention_output_bias);
    if (c.query_key_norm) {
      t.rms_norm("attention.query_norm", named("attn_q_norm", "self_attn.q_norm"), c.head_dim);
      t.rms_norm("attention.key_norm", named("attn_k_norm", "self_attn.k_norm"), c.head_dim);
    }
    if (c.sandwich_norm) {
      t.rms_norm("attention_post_norm", named("post_attention_norm", "post_attention_layernorm"), hidden);
      t.rms_norm("feed_forward_norm", named("ffn_norm", "pre_feedforward_layernorm"), hidden);
      t.rms_norm("feed_forward_post_norm", named("post_ffw_norm", "post_feedforward_layernorm"), hidden);
    } else {
      t.rms_norm("feed_forward_norm", named("ffn_norm", "post_attention_layernorm"), hidden);
    }
    t.matrix("feed_forward.gate", named("ffn_gate", "mlp.gate_proj"), width, hidden, column, c.feed_forward_bias);
    t.matrix("feed_forward.up", named("ffn_up", "mlp.up_proj"), width, hidden, column, c.feed_forward_bias);
    t.matrix("feed_forward.down", named("ffn_down", "mlp.down_proj"), hidden, width, row, c.feed_forward_bias);
  }
  t.enter("", "");
  t.rms_norm("norm", named("output_norm", "norm"), hidden);
  if (c.head == head_kind::causal_lm && !c.tied_embeddings) {
    weight_spec& output = t.matrix("output", named("output", "lm_head"), c.vocab_size, hidden, vocabulary, false);
    if (!gguf) output.sources = {"lm_head.weight", "language_model.lm_head.weight"};
  }
  if (gguf) {  // Llama 3's frequency factors; the config map has read them
    weight_spec& factors = t.add("rotary", ".factors", "rope_freqs", ".weight", {c.rotary_dim() / 2}, none);
    factors.required = false;
  }
  return t.take();
}

struct layer {
  nn::norm attention_norm;
  nn::attention attention;
  nn::norm attention_post_norm;  // Gemma 2 and 3; null elsewhere
  nn::norm feed_forward_norm;
  nn::gated_feed_forward feed_forward;
  nn::norm feed_forward_post_norm;

  // hidden [tokens, hidden_size], in place.
  void forward(nn::run& run, const nn::ragged_batch& batch, const nn::attention::context& context,
               const tensor& hidden) const {
    arena::scope scope(run.activations);
    const tensor x = run.activations.make(dtype::f32, {hidden.dim(0), hidden.dim(1)});
    if (attention_post_norm) {
      const tensor branch = run.activations.make(dtype::f32, {hidden.dim(0), hidden.dim(1)});
      attention_norm.forward(run, hidden, x);
      attention.forward(run, batch, context, x, branch);
      attention_post_norm.forward(run, branch, branch);
      feed_forward_norm.forward(run, branch, x, /*residual=*/hidden, /*sum=*/hidden);
      feed_forward.forward(run, x, branch);
      feed_forward_post_norm.forward(run, branch, branch);
      ops::add(run.ex, {.out = hidden, .a = hidden, .b = branch});
      return;
    }
    attention_norm.forward(run, hidden, x);
    attention.forward(run, batch, context, x, hidden, /*residual=*/hidden);
    feed_forward_norm.forward(run, hidden, x);
    feed_forward.forward(run, x, hidden, /*residual=*/hidden);
  }
};

constexpr size_t most_rotary_tables = 2;  // Gemma 3's, for full and for sliding attention

class llama final : public network {
 public:
  llama(const model_config& config, const weight_match& match, const build_options& options) : config_(config) {
    weight_loader load(match, options);
    const bool shared = config.tied_embeddings && config.head == head_kind::causal_lm;
    embedding_ = shared ? load.shared_embedding("embedding") : load.embedding("embedding");
    embedding_scale_ = config.embedding_scale;
    // Transformers holds the factor in the weights' dtype.
    if (options.compute == dtype::bf16) embedding_scale_ = bf16_to_f32(f32_to_bf16(embedding_scale_));
    if (options.compute == dtype::f16) embedding_scale_ = f16_to_f32(f32_to_f16(embedding_scale_));
    FT_CHECK(config.rotary.size() <= most_rotary_tables);
    for (const rotary_config& rotary : config.rotary) rotary_.push_back(load.rotary(rotary));
    layers_.resize(static_cast<size_t>(config.num_layers));
    load.for_each_layer(config.num_layers, [&](int64_t i) { layers_[static_cast<size_t>(i)] = load_layer(load, i); });
    norm_ = load.norm("norm", config);
    if (shared)
      output_ = load.tied_linear(embedding_);
    else if (config.head == head_kind::causal_lm)
      output_ = load.linear({"output"});
    weight_bytes_ = load.bytes();
  }

  tensor hidden(nn::run& run, const nn::ragged_batch& batch) const override {
    const tensor hidden = run.activations.make(dtype::f32, {batch.num_tokens, config_.hidden_size});
    arena::scope scope(run.activations);
    embedding_.forward(run, batch.token_ids, hidden, embedding_scale_);
    std::array<nn::attention::context, most_rotary_tables> contexts;  // no vector: a step allocates nothing
    for (size_t i = 0; i < rotary_.size(); ++i)
      contexts[i] = {.rotary_table = rotary_[i].table(run, batch.positions), .style = rotary_[i].style};
    for (size_t i = 0; i < layers_.size(); ++i) {
      run.check_cancelled();
      nn::attention::context context = contexts[static_cast<size_t>(config_.layers[i].rotary)];
      if (batch.cache) context.cache = &(*batch.cache)[i];
      layers_[i].forward(run, batch, context, hidden);
    }
    norm_.forward(run, hidden, hidden);
    return hidden;
  }

  tensor logits(nn::run& run, const tensor& hidden_rows) const override {
    if (!output_) return {};
    const tensor logits = output_.forward(run, hidden_rows);
    if (config_.logits_softcap != 0)
      ops::scale(run.ex, {.out = logits, .x = logits, .softcap = config_.logits_softcap});
    return logits;
  }

  tensor pooled(nn::run&, const tensor&) const override { return {}; }

  uint64_t weight_bytes() const override { return weight_bytes_; }

 private:
  layer load_layer(weight_loader& load, int64_t index) const {
    const model_config& c = config_;
    const std::string at = cat("layers.", index, ".");
    layer l;
    l.attention_norm = load.norm(at + "attention_norm", c);
    l.attention = {
        .query_key_value = load.linear({at + "attention.query", at + "attention.key", at + "attention.value"}),
        .output = load.linear({at + "attention.output"}),
        .query_norm = load.norm(at + "attention.query_norm", c),
        .key_norm = load.norm(at + "attention.key_norm", c),
        .num_heads = c.num_heads,
        .num_kv_heads = c.num_kv_heads,
        .head_dim = c.head_dim,
        .causal = true,
        .options = {.scale = c.attention_scale,
                    .softcap = c.attention_softcap,
                    .window = c.layers[static_cast<size_t>(index)].window}};
    l.attention_post_norm = load.norm(at + "attention_post_norm", c);
    l.feed_forward_norm = load.norm(at + "feed_forward_norm", c);
    l.feed_forward = {.gate_up = load.linear({at + "feed_forward.gate", at + "feed_forward.up"}),
                      .down = load.linear({at + "feed_forward.down"}),
                      .activation = c.activation};
    l.feed_forward_post_norm = load.norm(at + "feed_forward_post_norm", c);
    return l;
  }

  model_config config_;
  nn::embedding embedding_;
  float embedding_scale_ = 1;
  std::vector<nn::rotary> rotary_;
  std::vector<layer> layers_;
  nn::norm norm_;
  nn::linear output_;
  uint64_t weight_bytes_ = 0;
};

std::unique_ptr<network> build_llama(const model_config& config, const weight_match& match,
                                     const build_options& options) {
  return std::make_unique<llama>(config, match, options);
}

}  // namespace

family llama_family() {
  return {.name = "llama",
          .hugging_face = {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "gemma3_text"},
          .gguf = {"llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"},
          .config = llama_config,
          .weights = llama_weights,
          .build = build_llama};
}

}  // namespace ft::arch
