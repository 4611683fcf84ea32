#include "arch/networks/decoder.h"

#include <array>

#include "arch/weights/weight_loader.h"
#include "nn/attention.h"
#include "nn/feed_forward.h"
#include "ops/elementwise.h"
#include "ops/gguf_blocks.h"

namespace ft::arch {
namespace {

using context = nn::attention::context;

struct layer {
  block_kind kind = block_kind::pre_norm;
  nn::norm attention_norm;
  nn::attention attention;
  nn::norm attention_post_norm;  // block_kind::sandwich
  nn::norm feed_forward_norm;
  nn::gated_feed_forward gated;   // one of these
  nn::feed_forward feed_forward;  // two is there
  nn::norm feed_forward_post_norm;

  // hidden [tokens, hidden_size], in place.
  void forward(nn::run& run, const nn::ragged_batch& batch, const context& context, const tensor& hidden) const {
    arena::scope scope(run.activations);
    switch (kind) {
      case block_kind::pre_norm:
        return pre_norm(run, batch, context, hidden);
      case block_kind::sandwich:
        return sandwich(run, batch, context, hidden);
      case block_kind::parallel:
        return parallel(run, batch, context, hidden);
      case block_kind::post_norm:
        return post_norm(run, batch, context, hidden);
      case block_kind::normed_residual:
        return normed_residual(run, batch, context, hidden);
    }
  }

 private:
  static tensor like(nn::run& run, const tensor& hidden) { return run.make({hidden.dim(0), hidden.dim(1)}); }

  void feed(nn::run& run, const tensor& x, const tensor& out, const tensor& residual = {}) const {
    gated.down ? gated.forward(run, x, out, residual) : feed_forward.forward(run, x, out, residual);
  }

  // x += attention(norm(x)); x += feed_forward(norm(x))
  void pre_norm(nn::run& run, const nn::ragged_batch& batch, const context& context, const tensor& hidden) const {
    const tensor x = like(run, hidden);
    attention_norm.forward(run, hidden, x);
    attention.forward(run, batch, context, x, hidden, /*residual=*/hidden);
    feed_forward_norm.forward(run, hidden, x);
    feed(run, x, hidden, /*residual=*/hidden);
  }

  // x += norm(attention(norm(x))); x += norm(feed_forward(norm(x)))
  void sandwich(nn::run& run, const nn::ragged_batch& batch, const context& context, const tensor& hidden) const {
    const tensor x = like(run, hidden), branch = like(run, hidden);
    attention_norm.forward(run, hidden, x);
    attention.forward(run, batch, context, x, branch);
    attention_post_norm.forward(run, branch, branch);
    feed_forward_norm.forward(run, branch, x, /*residual=*/hidden, /*sum=*/hidden);
    feed(run, x, branch);
    feed_forward_post_norm.forward(run, branch, branch);
    ops::add(run.ex, {.out = hidden, .a = hidden, .b = branch});
  }

  // x += attention(norm(x)) + feed_forward(norm'(x)); GPT-J's two norms are one.
  void parallel(nn::run& run, const nn::ragged_batch& batch, const context& context, const tensor& hidden) const {
    const tensor x = like(run, hidden);
    tensor y = x;
    attention_norm.forward(run, hidden, x);
    if (feed_forward_norm) {
      y = like(run, hidden);
      feed_forward_norm.forward(run, hidden, y);
    }
    attention.forward(run, batch, context, x, hidden, /*residual=*/hidden);
    feed(run, y, hidden, /*residual=*/hidden);
  }

  // x = norm(x + attention(x)); x = norm(x + feed_forward(x))
  void post_norm(nn::run& run, const nn::ragged_batch& batch, const context& context, const tensor& hidden) const {
    const tensor branch = like(run, hidden);
    attention.forward(run, batch, context, hidden, branch, /*residual=*/hidden);
    attention_norm.forward(run, branch, hidden);
    feed(run, hidden, branch, /*residual=*/hidden);
    feed_forward_norm.forward(run, branch, hidden);
  }

  // x = norm(x); x += attention(x); x = norm(x); x += feed_forward(x)
  void normed_residual(nn::run& run, const nn::ragged_batch& batch, const context& context,
                       const tensor& hidden) const {
    const tensor x = like(run, hidden);
    attention_norm.forward(run, hidden, x);
    attention.forward(run, batch, context, x, hidden, /*residual=*/x);
    feed_forward_norm.forward(run, hidden, x);
    feed(run, x, hidden, /*residual=*/x);
  }
};

constexpr size_t most_rotary_tables = 2;  // Gemma 3's, for full and for sliding attention

class decoder final : public network {
 public:
  decoder(const model_config& config, const weight_match& match, const build_options& options) : config_(config) {
    weight_loader load(match, options);
    load_embedding(load, options.compute);
    FT_CHECK(config.positions.rotary.size() <= most_rotary_tables);
    for (const rotary_config& rotary : config.positions.rotary) rotary_.push_back(load.rotary(rotary));
    if (!config.positions.alibi_slopes.empty()) alibi_slopes_ = load.constants(config.positions.alibi_slopes);
    layers_.resize(static_cast<size_t>(config.num_layers));
    load.for_each_layer(config.num_layers, [&](int64_t i) { layers_[static_cast<size_t>(i)] = load_layer(load, i); });
    if (config.final_norm) norm_ = load.norm("norm", config, config.hidden_size);
    if (config.projects_embedding()) output_projection_ = load.linear({"output_projection"});
    if (shares_embedding())
      output_ = load.tied_linear(embedding_, "output");
    else if (config.head.kind == head_kind::causal_lm)
      output_ = load.linear({"output"});
    weight_bytes_ = load.bytes();
  }

  tensor hidden(nn::run& run, const nn::ragged_batch& batch) const override {
    const tensor hidden = run.make({batch.num_tokens, config_.hidden_size});
    const tensor narrow =
        config_.projects_embedding() ? run.make({batch.num_tokens, config_.embedding.size}) : tensor();
    arena::scope scope(run.activations);
    embed(run, batch, narrow, hidden);
    std::array<context, most_rotary_tables> contexts;  // no vector: a step allocates nothing
    for (size_t i = 0; i < rotary_.size(); ++i)
      contexts[i] = {.rotary_table = rotary_[i].table(run, batch.positions), .style = rotary_[i].style};
    for (size_t i = 0; i < layers_.size(); ++i) {
      run.check_cancelled();
      context context = contexts[static_cast<size_t>(config_.layers[i].rotary)];
      if (batch.cache) context.cache = &(*batch.cache)[i];
      layers_[i].forward(run, batch, context, hidden);
    }
    if (norm_) norm_.forward(run, hidden, hidden);
    if (!narrow) return hidden;
    output_projection_.forward(run, hidden, narrow);
    return narrow;
  }

  tensor logits(nn::run& run, const tensor& hidden_rows) const override {
    if (!output_) return {};
    const tensor logits = output_.logits(run, hidden_rows);
    if (config_.head.logits_softcap != 0)
      ops::scale(run.ex, {.out = logits, .x = logits, .softcap = config_.head.logits_softcap});
    return logits;
  }

  tensor pooled(nn::run&, const tensor&) const override { return {}; }

  uint64_t weight_bytes() const override { return weight_bytes_; }

 private:
  bool shares_embedding() const { return config_.embedding.tied && config_.head.kind == head_kind::causal_lm; }

  void load_embedding(weight_loader& load, dtype compute) {
    embedding_ = shares_embedding() ? load.shared_embedding("embedding") : load.embedding("embedding");
    embedding_scale_ = config_.embedding.scale;
    // Transformers holds the factor in the weights' dtype.
    if (compute == dtype::bf16) embedding_scale_ = bf16_to_f32(f32_to_bf16(embedding_scale_));
    if (compute == dtype::f16) embedding_scale_ = f16_to_f32(f32_to_f16(embedding_scale_));
    if (config_.projects_embedding()) embedding_projection_ = load.linear({"embedding_projection"});
    if (config_.positions.learned) positions_ = load.embedding("positions");
    if (config_.positions.offset) positions_.skip_rows(config_.positions.offset);
    if (config_.embedding_norm) embedding_norm_ = load.norm("embedding_norm", config_, config_.hidden_size);
  }

  // narrow [tokens, embedding_size] is null where the embedding is as wide as the layers.
  void embed(nn::run& run, const nn::ragged_batch& batch, const tensor& narrow, const tensor& hidden) const {
    if (!narrow)
      return nn::embed(run, batch, hidden, embedding_, embedding_scale_, {{{&positions_, batch.positions}}},
                       embedding_norm_);
    nn::embed(run, batch, narrow, embedding_, embedding_scale_, {}, {});
    embedding_projection_.forward(run, narrow, hidden);
    if (positions_) positions_.add(run, batch.positions, hidden);
    if (embedding_norm_) embedding_norm_.forward(run, hidden, hidden);
  }

  layer load_layer(weight_loader& load, int64_t index) const {
    const model_config& c = config_;
    const layer_config& own = c.layers[static_cast<size_t>(index)];
    const std::string at = cat("layers.", index, ".");
    const auto norm = [&](const char* name) { return load.norm(at + name, c, c.hidden_size); };
    layer l{.kind = c.block};
    l.attention_norm = norm("attention_norm");
    l.attention = {
        .query_key_value = load.linear({at + "attention.query", at + "attention.key", at + "attention.value"}),
        .output = load.linear({at + "attention.output"}),
        .num_heads = c.attention.num_heads,
        .num_kv_heads = c.attention.num_kv_heads,
        .head_dim = c.attention.head_dim,
        .causal = true,
        .options = {.scale = c.attention.scale * own.attention_scale,
                    .softcap = c.attention.softcap,
                    .window = own.window,
                    .alibi_slopes = alibi_slopes_.values()}};
    if (c.attention.query_key_norm) {
      l.attention.query_norm = load.norm(at + "attention.query_norm", c, c.attention.head_dim);
      l.attention.key_norm = load.norm(at + "attention.key_norm", c, c.attention.head_dim);
    }
    if (!c.shared_norm) l.feed_forward_norm = norm("feed_forward_norm");
    if (c.block == block_kind::sandwich) {
      l.attention_post_norm = norm("attention_post_norm");
      l.feed_forward_post_norm = norm("feed_forward_post_norm");
    }
    const std::string up = at + "feed_forward.up", down = at + "feed_forward.down";
    if (c.mlp.gated())
      l.gated = {.gate_up = load.linear({at + "feed_forward.gate", up}),
                 .down = load.linear({down}),
                 .activation = c.mlp.activation};
    else
      l.feed_forward = {.up = load.linear({up}), .down = load.linear({down}), .activation = c.mlp.activation};
    return l;
  }

  model_config config_;
  nn::embedding embedding_, positions_;
  float embedding_scale_ = 1;
  nn::linear embedding_projection_, output_projection_;
  nn::norm embedding_norm_;
  std::vector<nn::rotary> rotary_;
  nn::parameter alibi_slopes_;
  std::vector<layer> layers_;
  nn::norm norm_;
  nn::linear output_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace

std::unique_ptr<network> build_decoder(const model_config& config, const weight_match& match,
                                       const build_options& options) {
  return std::make_unique<decoder>(config, match, options);
}

}  // namespace ft::arch
