#include "nn/linear.h"

#include "ops/activation.h"
#include "ops/gated_linear.h"
#include "ops/linear.h"

namespace ft::nn {

int64_t linear::out_features() const {
  int64_t n = 0;
  for (const auto& weight : weights_) n += weight->out_features;
  return n;
}

void linear::forward(run& run, const tensor& x, const tensor& out, activation_kind activation,
                     const tensor& residual) const {
  int64_t begin = 0;
  for (const auto& weight : weights_) {
    const int64_t end = begin + weight->out_features;
    linear_args args{.out = out.slice(1, begin, end), .x = x, .weight = weight.get(), .activation = activation};
    if (bias_) args.bias = bias_.values() + begin;
    if (rounded_bias_) args.rounded_bias = rounded_bias_.view.slice(0, begin, end).data;
    if (residual) args.residual = residual.slice(1, begin, end);
    ops::linear(run.ex, args);
    begin = end;
  }
}

tensor linear::forward(run& run, const tensor& x, activation_kind activation) const {
  tensor out = run.make({x.dim(0), out_features()});
  forward(run, x, out, activation);
  return out;
}

tensor linear::logits(run& run, const tensor& x) const {
  tensor out = run.activations.make(dtype::f32, {x.dim(0), out_features()});
  forward(run, x, out);
  return out;
}

tensor linear::gated(run& run, const tensor& x, activation_kind activation) const {
  const int64_t width = out_features() / 2;
  tensor out = run.make({x.dim(0), width});
  if (weights_.size() == 1) {
    ops::gated_linear(run.ex, {.out = out,
                               .x = x,
                               .weight = weights_[0].get(),
                               .bias = bias_ ? bias_.values() : nullptr,
                               .rounded_bias = rounded_bias_ ? rounded_bias_.view.data : nullptr,
                               .activation = activation});
    return out;
  }
  arena::scope scope(run.activations);
  const tensor both = forward(run, x);
  ops::gated_activation(
      run.ex, {.out = out, .gate = both.slice(1, 0, width), .up = both.slice(1, width, 2 * width), .kind = activation});
  return out;
}

}  // namespace ft::nn
