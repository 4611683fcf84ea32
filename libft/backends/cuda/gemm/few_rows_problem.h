// What the kernels for few rows compute: out = f(x weight^T + bias) + residual, with float32 sums. They differ in how
// they read the weights and add up; what becomes of a sum is said here.
#pragma once

#include "backends/cuda/activate.h"
#include "backends/cuda/vector.h"
#include "backends/cuda/weight.h"
#include "ops/linear.h"

namespace ft::cuda {

template <class T, class Out>
struct few_rows_problem {
  row_view<const T> x;
  const T* weight;
  row_view<Out> out;
  row_view<const Out> residual;  // may be `out`
  const float* bias;
  activation_kind kind;
  int rows, in_features, out_features;

#ifdef __CUDACC__
  // The residual is read just before the only write to its place.
  __device__ void finish(int row, int feature, float sum) const {
    float y[1] = {sum + (bias ? bias[feature] : 0.f)};
    activate<1>(kind, y);
    if (residual) y[0] += widen(*residual.at(row, feature));
    *out.at(row, feature) = narrow<Out>(y[0]);
  }
#endif

  // From the given row of x, out and residual on.
  void skip(int64_t count) {
    x.data += count * x.stride;
    out.data += count * out.stride;
    if (residual) residual.data += count * residual.stride;
  }
};

template <class T, class Out>
few_rows_problem<T, Out> few_rows_of(const linear_args& l, const cuda_weight& weight) {
  if (weight.in_features > 0x7fffffff || weight.out_features > 0x7fffffff)
    fail(FT_ERROR_UNSUPPORTED, "linear: the weight is too large");
  few_rows_problem<T, Out> p{.x = rows_of<const T>(l.x),
                             .weight = weight.values.as<const T>(),
                             .out = rows_of<Out>(l.out),
                             .bias = l.bias,
                             .kind = l.activation,
                             .rows = static_cast<int>(l.x.dim(0)),
                             .in_features = static_cast<int>(weight.in_features),
                             .out_features = static_cast<int>(weight.out_features)};
  if (l.residual) p.residual = rows_of<const Out>(l.residual);
  return p;
}

}  // namespace ft::cuda
