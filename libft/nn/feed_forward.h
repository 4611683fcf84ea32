// The two feed-forward blocks: down(f(up(x))), and the gated down(f(gate(x)) * up(x)) of GLU variants
// (arXiv:2002.05202). Both read x [tokens, hidden_size] and write out = block(x) + residual; residual may be null or
// `out` itself.
#pragma once

#include "nn/linear.h"
#include "nn/run.h"
#include "ops/activation.h"

namespace ft::nn {

struct feed_forward {
  linear up;
  linear down;
  activation_kind activation = activation_kind::gelu;

  void forward(run& run, const tensor& x, const tensor& out, const tensor& residual = {}) const;
};

struct gated_feed_forward {
  linear gate_up;  // [gate | up]
  linear down;
  activation_kind activation = activation_kind::silu;

  void forward(run& run, const tensor& x, const tensor& out, const tensor& residual = {}) const;
};

}  // namespace ft::nn
