// LayerNorm or RMSNorm with its weights.
#pragma once

#include "nn/parameter.h"
#include "nn/run.h"
#include "ops/norm.h"

namespace ft::nn {

struct norm {
  parameter weight;
  parameter bias;
  float epsilon = 1e-5f;
  float weight_offset = 0;
  norm_kind kind = norm_kind::layer;

  explicit operator bool() const { return bool(weight); }

  // out = norm(x + residual), which is also stored in `sum`; residual and sum may be null. ops/norm.h says what may
  // share memory with what.
  void forward(run& run, const tensor& x, const tensor& out, const tensor& residual = {},
               const tensor& sum = {}) const {
    norm_args a = args();
    a.x = x;
    a.out = out;
    a.residual = residual;
    a.sum = sum;
    ops::norm(run.ex, a);
  }

  // All but the tensors.
  norm_args args() const {
    return {.weight = weight.values(),
            .bias = bias.values(),
            .epsilon = epsilon,
            .weight_offset = weight_offset,
            .kind = kind};
  }
};

}  // namespace ft::nn
