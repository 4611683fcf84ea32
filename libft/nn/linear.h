// A linear layer, or several that read the same input (query, key and value; gate and up), as one: their weights are
// packed together where the device can, and their outputs stand side by side in one matrix either way.
#pragma once

#include <memory>
#include <vector>

#include "nn/parameter.h"
#include "nn/run.h"
#include "ops/activation.h"

namespace ft::nn {

class linear {
 public:
  linear() = default;
  // `bias` is null or spans the outputs of all the weights; `rounded_bias` is null or the same in the activations'
  // dtype.
  linear(std::vector<std::shared_ptr<const packed_weight>> weights, parameter bias, parameter rounded_bias = {})
      : weights_(std::move(weights)), bias_(std::move(bias)), rounded_bias_(std::move(rounded_bias)) {}

  explicit operator bool() const { return !weights_.empty(); }
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
  std::vector<std::shared_ptr<const packed_weight>> weights_;
  parameter bias_;
  parameter rounded_bias_;
};

}  // namespace ft::nn
