// The position-wise block: down(f(up(x))), or the gated down(f(gate(x)) * up(x)) of GLU variants (arXiv:2002.05202).
// A further kind, of experts among which each token chooses, would stand beside these.
#pragma once

#include "nn/linear.h"
#include "nn/run.h"
#include "ops/activation.h"

namespace ft::nn {

enum class mlp_kind : uint8_t { plain, gated };

struct mlp {
  mlp_kind kind = mlp_kind::plain;
  linear up;  // gated: [gate | up]
  linear down;
  activation_kind activation = activation_kind::none;

  // out = mlp(x) + residual; x, out, residual [tokens, hidden_size]; residual may be null or `out`. Of a rank's share,
  // out is a part of the ranks' sum.
  void forward(run& run, const tensor& x, const tensor& out, const tensor& residual = {}) const;
};

}  // namespace ft::nn
