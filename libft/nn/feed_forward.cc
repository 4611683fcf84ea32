#include "nn/feed_forward.h"

namespace ft::nn {

void feed_forward::forward(run& run, const tensor& x, const tensor& out, const tensor& residual) const {
  arena::scope scope(run.activations);
  down.forward(run, up.forward(run, x, activation), out, activation_kind::none, residual);
}

void gated_feed_forward::forward(run& run, const tensor& x, const tensor& out, const tensor& residual) const {
  arena::scope scope(run.activations);
  down.forward(run, gate_up.gated(run, x, activation), out, activation_kind::none, residual);
}

}  // namespace ft::nn
