#include "nn/linear.h"

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

}  // namespace ft::nn
