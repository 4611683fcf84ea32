#include "nn/feed_forward.h"

namespace ft::nn {

void feed_forward::forward(run& run, const tensor& x, const tensor& out, const tensor& residual) const {
  arena::scope scope(run.activations);
  down.forward(run, up.forward(run, x, activation), out, activation_kind::none, residual);
}

void gated_feed_forward::forward(run& run, const tensor& x, const tensor& out, const tensor& residual) const {
  arena::scope scope(run.activations);
  const tensor both = gate_up.forward(run, x);
  const int64_t width = both.dim(1) / 2;
  const tensor gated = run.make({x.dim(0), width});
  ops::gated_activation(
      run.ex,
      {.out = gated, .gate = both.slice(1, 0, width), .up = both.slice(1, width, 2 * width), .kind = activation});
  down.forward(run, gated, out, activation_kind::none, residual);
}

}  // namespace ft::nn
