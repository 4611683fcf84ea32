#include "nn/mlp.h"

namespace ft::nn {

void mlp::forward(run& run, const tensor& x, const tensor& out, const tensor& residual) const {
  arena::scope scope(run.activations);
  const tensor inner = kind == mlp_kind::gated ? up.gated(run, x, activation) : up.forward(run, x, activation);
  down.forward(run, inner, out, activation_kind::none, residual);
}

}  // namespace ft::nn
