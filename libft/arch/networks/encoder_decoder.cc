#include "arch/networks/encoder_decoder.h"

#include <algorithm>
#include <cmath>

#include "arch/weights/weight_loader.h"
#include "nn/attention.h"
#include "nn/cross_attention.h"
#include "nn/feed_forward.h"
#include "ops/elementwise.h"

namespace ft::arch {
namespace {

// What embeds one stack's tokens.
struct front {
  const nn::embedding* words = nullptr;
  const nn::embedding* positions = nullptr;  // null: the stack has a relative bias
  nn::norm norm;                             // null: none
  float scale = 1;

  // out [tokens, hidden_size]
  void forward(nn::run& run, const nn::ragged_batch& batch, const tensor& out) const {
    nn::embed(run, batch, out, *words, scale, {{{positions, batch.positions}}}, norm);
  }
};

struct layer {
  nn::norm attention_norm;
  nn::attention attention;
  nn::norm cross_norm;
  nn::cross_attention cross;  // the decoder's only
  nn::norm feed_forward_norm;
  nn::feed_forward feed_forward;  // or
  nn::gated_feed_forward gated_feed_forward;
  bool pre_norm = false;

  // hidden [tokens, hidden_size], in place.
  void forward(nn::run& run, const nn::ragged_batch& batch, const kv_pages* cache, const tensor& hidden) const {
    arena::scope scope(run.activations);
    const tensor x = run.make({hidden.dim(0), hidden.dim(1)});
    residual(run, attention_norm, hidden, x, [&](const tensor& in, const tensor& out, const tensor& sum) {
      attention.forward(run, batch, {.cache = cache}, in, out, sum);
    });
    if (cross.query)
      residual(run, cross_norm, hidden, x, [&](const tensor& in, const tensor& out, const tensor& sum) {
        cross.forward(run, batch, cache, in, out, sum);
      });
    residual(run, feed_forward_norm, hidden, x, [&](const tensor& in, const tensor& out, const tensor& sum) {
      if (gated_feed_forward.down)
        gated_feed_forward.forward(run, in, out, sum);
      else
        feed_forward.forward(run, in, out, sum);
    });
  }

 private:
  // hidden + block(norm(hidden)), or norm(hidden + block(hidden)); block(in, out, what to add). `x` is as hidden.
  template <class Block>
  void residual(nn::run& run, const nn::norm& norm, const tensor& hidden, const tensor& x, Block&& block) const {
    if (pre_norm) {
      norm.forward(run, hidden, x);
      block(x, hidden, hidden);
    } else {
      block(hidden, x, hidden);
      norm.forward(run, x, hidden);
    }
  }
};

struct stack {
  front embedding;
  nn::parameter relative_bias;  // [num_heads, 2 * relative_max_distance + 1]; every layer's attention reads it
  std::vector<layer> layers;
  nn::norm norm;  // null: none

  // [tokens, hidden_size] in the run's activations.
  tensor forward(nn::run& run, const nn::ragged_batch& batch, int64_t hidden_size) const {
    const tensor hidden = run.make({batch.num_tokens, hidden_size});
    embedding.forward(run, batch, hidden);
    for (size_t i = 0; i < layers.size(); ++i) {
      run.check_cancelled();
      layers[i].forward(run, batch, batch.cache ? &(*batch.cache)[i] : nullptr, hidden);
    }
    if (norm) norm.forward(run, hidden, hidden);
    return hidden;
  }
};

// One of the two stacks as the configuration has it.
struct stack_shape {
  const char* name;  // in the weight table
  bool decoder;
  int64_t num_layers;
  int64_t num_heads;
};

class encoder_decoder final : public network {
 public:
  encoder_decoder(const model_config& config, const weight_match& match, const build_options& options)
      : config_(config) {
    weight_loader load(match, options);
    const bool tied = config.embedding.tied && config.head.kind == head_kind::causal_lm;
    embedding_ = tied ? load.shared_embedding("embedding") : load.embedding("embedding");
    if (!config.embedding.shared) source_embedding_ = load.embedding("encoder.embedding");
    if (config.positions.sinusoidal) source_positions_ = sinusoidal_table(load);
    encoder_ = load_stack(load, {"encoder.", false, config.encoder.num_layers, config.encoder.attention.num_heads});
    if (config.is_encoder_decoder)
      decoder_ = load_stack(load, {"decoder.", true, config.num_layers, config.attention.num_heads});
    if (tied)
      output_ = load.tied_linear(embedding_, "output");
    else if (config.head.kind == head_kind::causal_lm)
      output_ = load.linear({"output"});
    weight_bytes_ = load.bytes();
  }

  tensor encode(nn::run& run, const nn::ragged_batch& batch) const override {
    return encoder_.forward(run, batch, config_.hidden_size);
  }

  void keep_cross(nn::run& run, const tensor& states, const tensor& slots,
                  const std::vector<kv_pages>& cache) const override {
    for (size_t i = 0; i < decoder_.layers.size(); ++i) decoder_.layers[i].cross.keep(run, states, slots, cache[i]);
  }

  // Of an encoder alone, the encoder's.
  tensor hidden(nn::run& run, const nn::ragged_batch& batch) const override {
    return (config_.is_encoder_decoder ? decoder_ : encoder_).forward(run, batch, config_.hidden_size);
  }

  tensor logits(nn::run& run, const tensor& hidden_rows) const override {
    if (!output_) return {};
    if (config_.head.input_scale == 1) return output_.logits(run, hidden_rows);
    const tensor logits = run.activations.make(dtype::f32, {hidden_rows.dim(0), config_.tokens.vocab_size});
    arena::scope scope(run.activations);
    const tensor scaled = run.make({hidden_rows.dim(0), config_.hidden_size});
    ops::scale(run.ex, {.out = scaled, .x = hidden_rows, .scale = config_.head.input_scale});
    output_.forward(run, scaled, logits);
    return logits;
  }

  tensor pooled(nn::run&, const tensor&) const override { return {}; }

  uint64_t weight_bytes() const override { return weight_bytes_; }

 private:
  stack load_stack(weight_loader& load, const stack_shape& shape) {
    const model_config& c = config_;
    const std::string at = shape.name;
    stack s;
    s.embedding.words = shape.decoder || c.embedding.shared ? &embedding_ : &source_embedding_;
    s.embedding.scale = c.embedding.scale;
    if (c.positions.sinusoidal) {
      s.embedding.positions = &source_positions_;
    } else if (c.positions.learned) {
      nn::embedding& positions = shape.decoder ? target_positions_ : source_positions_;
      positions = load.embedding(at + "positions");
      if (c.positions.offset) positions.skip_rows(c.positions.offset);
      s.embedding.positions = &positions;
    }
    if (c.embedding_norm) s.embedding.norm = load.norm(at + "embedding_norm", c);
    if (c.positions.relative_buckets) s.relative_bias = relative_table(load, shape);
    s.layers.resize(static_cast<size_t>(shape.num_layers));
    load.for_each_layer(shape.num_layers, [&](int64_t i) {
      s.layers[static_cast<size_t>(i)] = load_layer(load, shape, cat(at, "layers.", i, "."), s.relative_bias.view);
    });
    if (c.final_norm) s.norm = load.norm(at + "norm", c);
    return s;
  }

  layer load_layer(weight_loader& load, const stack_shape& shape, const std::string& at, const tensor& bias) const {
    const model_config& c = config_;
    const int64_t head_dim = c.attention.num_heads * c.attention.head_dim / shape.num_heads;
    const float scale = c.attention.scale != 0 ? c.attention.scale : 1 / std::sqrt(static_cast<float>(head_dim));
    layer l;
    l.pre_norm = c.block == block_kind::pre_norm;
    l.attention_norm = load.norm(at + "attention_norm", c);
    l.attention = {
        .query_key_value = load.linear({at + "attention.query", at + "attention.key", at + "attention.value"}),
        .output = load.linear({at + "attention.output"}),
        .num_heads = shape.num_heads,
        .num_kv_heads = shape.num_heads,
        .head_dim = head_dim,
        .causal = shape.decoder,
        .options = {.scale = scale, .relative_bias = bias}};
    if (shape.decoder) {
      l.cross_norm = load.norm(at + "cross_norm", c);
      l.cross = {.query = load.linear({at + "cross.query"}),
                 .key_value = load.linear({at + "cross.key", at + "cross.value"}),
                 .output = load.linear({at + "cross.output"}),
                 .num_heads = shape.num_heads,
                 .head_dim = head_dim,
                 .options = {.scale = scale}};
    }
    l.feed_forward_norm = load.norm(at + "feed_forward_norm", c);
    if (c.mlp.gated())
      l.gated_feed_forward = {.gate_up = load.linear({at + "feed_forward.gate", at + "feed_forward.up"}),
                              .down = load.linear({at + "feed_forward.down"}),
                              .activation = c.mlp.activation};
    else
      l.feed_forward = {.up = load.linear({at + "feed_forward.up"}),
                        .down = load.linear({at + "feed_forward.down"}),
                        .activation = c.mlp.activation};
    return l;
  }

  // The stored bias [buckets, heads] laid out by distance for each head, as ops/attention.h wants it.
  nn::parameter relative_table(weight_loader& load, const stack_shape& shape) const {
    const int64_t reach = config_.positions.relative_max_distance, distances = 2 * reach + 1;
    const std::vector<float> stored = load.values(std::string(shape.name) + "relative_bias.weight");
    std::vector<float> table(static_cast<size_t>(shape.num_heads * distances));
    for (int64_t i = 0; i < distances; ++i) {
      const int64_t bucket = relative_bucket(i - reach, !shape.decoder, config_.positions.relative_buckets, reach);
      for (int64_t h = 0; h < shape.num_heads; ++h)
        table[static_cast<size_t>(h * distances + i)] = stored[static_cast<size_t>(bucket * shape.num_heads + h)];
    }
    return load.upload(tensor(table.data(), dtype::f32, {shape.num_heads, distances}));
  }

  // Sines in the first half of a position's vector, cosines in the second (arXiv:1706.03762 section 3.5).
  nn::embedding sinusoidal_table(weight_loader& load) const {
    const int64_t width = config_.hidden_size, half = (width + 1) / 2;
    std::vector<float> table(static_cast<size_t>(config_.positions.max * width));
    for (int64_t p = 0; p < config_.positions.max; ++p)
      for (int64_t i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(p) / std::pow(10000.0, static_cast<double>(2 * i) / static_cast<double>(width));
        table[static_cast<size_t>(p * width + i)] = static_cast<float>(std::sin(angle));
        if (half + i < width) table[static_cast<size_t>(p * width + half + i)] = static_cast<float>(std::cos(angle));
      }
    return {.table = load.upload(tensor(table.data(), dtype::f32, {config_.positions.max, width}))};
  }

  model_config config_;
  nn::embedding embedding_, source_embedding_;  // the latter where the encoder has a vocabulary of its own
  nn::embedding source_positions_, target_positions_;
  stack encoder_, decoder_;
  nn::linear output_;
  uint64_t weight_bytes_ = 0;
};

}  // namespace

// In float32 and in this order, as transformers computes it: distances at a range's very edge fall as its rounding has
// it.
int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t max_distance) {
  int64_t first = 0;
  if (bidirectional) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(0, -distance);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  const float part = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                     static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact))) *
                     static_cast<float>(buckets - exact);
  return first + std::min(exact + static_cast<int64_t>(part), buckets - 1);
}

std::unique_ptr<network> build_encoder_decoder(const model_config& config, const weight_match& match,
                                               const build_options& options) {
  return std::make_unique<encoder_decoder>(config, match, options);
}

}  // namespace ft::arch
