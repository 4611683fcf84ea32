// What every kernel of linear and gated_linear is asked for, in the backend's own terms.
#pragma once

#include "backends/cuda/device/weight.h"
#include "ops/gated_linear.h"
#include "ops/linear.h"

namespace ft::cuda {

// out = f(x · weightᵀ + bias) + residual; or, gated, what ops/gated_linear.h says: the weight has gate's rows, then as
// many of up's, and `out` has the outputs of one of them.
struct product {
  tensor out, x, residual;
  const cuda_weight& weight;
  const float* bias = nullptr;
  const void* rounded_bias = nullptr;  // in the dtype of the weight's values; null where that is float32
  activation_kind activation = activation_kind::none;
  bool gated = false;

  int64_t rows() const { return x.dim(0); }
};

inline product product_of(const linear_args& a) {
  return {.out = a.out,
          .x = a.x,
          .residual = a.residual,
          .weight = on_gpu(*a.weight),
          .bias = a.bias ? on_gpu(a.bias)->values() : nullptr,
          .rounded_bias = a.bias ? on_gpu(a.bias)->rounded() : nullptr,
          .activation = a.activation};
}

inline product product_of(const gated_linear_args& a) {
  return {.out = a.out,
          .x = a.x,
          .weight = on_gpu(*a.weight),
          .bias = a.bias ? on_gpu(a.bias)->values() : nullptr,
          .rounded_bias = a.bias ? on_gpu(a.bias)->rounded() : nullptr,
          .activation = a.activation,
          .gated = true};
}

}  // namespace ft::cuda
