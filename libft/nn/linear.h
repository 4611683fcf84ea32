// A linear layer, or several that read the same input (query, key and value; gate and up), as one: weights of one
// format are packed together, and all outputs stand side by side in one matrix either way.
#pragma once

#include <memory>
#include <vector>

#include "nn/run.h"
#include "ops/activation.h"

namespace ft::nn {

// A weight with the bias of its outputs, which may be null.
struct weight_and_bias {
  std::shared_ptr<const packed_weight> weight;
  std::shared_ptr<const packed_bias> bias;
};

class linear {
 public:
  linear() = default;
  explicit linear(std::vector<weight_and_bias> parts) : parts_(std::move(parts)) {}

  explicit operator bool() const { return !parts_.empty(); }
  int64_t out_features() const;

  // out = activation(x · weightᵀ + bias) + residual; x [rows, in], out and residual [rows, out]; residual may be null
  // or `out` itself.
  void forward(run& run, const tensor& x, const tensor& out, activation_kind activation = activation_kind::none,
               const tensor& residual = {}) const;

  // The same, into a new tensor of the run's activations.
  tensor forward(run& run, const tensor& x, activation_kind activation = activation_kind::none) const;

  // The same in float32, whatever the activations are: what a head gives.
  tensor logits(run& run, const tensor& x) const;

  // activation(gate's outputs) * up's outputs, [rows, out / 2], where the weights are gate's and up's.
  tensor gated(run& run, const tensor& x, activation_kind activation) const;

 private:
  std::vector<weight_and_bias> parts_;
};

}  // namespace ft::nn
