#include "nn/linear.h"

#include "ops/activation.h"
#include "ops/gated_linear.h"
#include "ops/linear.h"

namespace ft::nn {

int64_t linear::out_features() const {
  int64_t n = 0;
  for (const weight_and_bias& part : parts_) n += part.weight->out_features;
  return n;
}

void linear::forward(run& run, const tensor& x, const tensor& out, activation_kind activation,
                     const tensor& residual) const {
  int64_t begin = 0;
  for (const weight_and_bias& part : parts_) {
    const int64_t end = begin + part.weight->out_features;
    linear_args args{.out = out.slice(1, begin, end),
                     .x = x,
                     .weight = part.weight.get(),
                     .bias = part.bias.get(),
                     .activation = activation};
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
  if (parts_.size() == 1) {
    ops::gated_linear(
        run.ex,
        {.out = out, .x = x, .weight = parts_[0].weight.get(), .bias = parts_[0].bias.get(), .activation = activation});
    return out;
  }
  arena::scope scope(run.activations);
  const tensor both = forward(run, x);
  ops::gated_activation(
      run.ex, {.out = out, .gate = both.slice(1, 0, width), .up = both.slice(1, width, 2 * width), .kind = activation});
  return out;
}

}  // namespace ft::nn
