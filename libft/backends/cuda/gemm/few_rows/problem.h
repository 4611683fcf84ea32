// What the kernels for few rows compute: out = f(x weight^T + bias) + residual, with float32 sums; or, gated, what
// ops/gated_linear.h says. They differ in how they read the weights and add up; what becomes of a sum is said here.
#pragma once

#include "backends/cuda/gemm/product.h"
#include "backends/cuda/kernel/activate.h"
#include "backends/cuda/kernel/vector.h"

namespace ft::cuda {

template <class T, class Out>
struct few_rows_problem {
  row_view<const T> x;
  const T* weight;
  row_view<Out> out;
  row_view<const Out> residual;  // may be `out`
  const float* bias;
  activation_kind kind;
  bool gated;  // the weight has gate's out_features rows, then up's
  bool fours;  // outputs can be written, and what is added to them read, four at a time
  int rows, in_features, out_features;

#ifdef __CUDACC__
  // What is added to V neighbouring outputs; a negative row stands for none. They can be asked for as soon as the
  // kernel before this one has ended, and come while the sums are made.
  template <int V>
  struct addends {
    float bias[V] = {}, residual[V] = {};

    __device__ addends(const few_rows_problem& p, int row, int feature) {
      if (row < 0) return;
      if (p.bias) p.read<V>(bias, p.bias + feature, feature);
      if (p.residual) p.read<V>(residual, p.residual.at(row, feature), feature);
    }
  };

  // Sums of V neighbours become outputs in these steps, the second of which is for gated products only. No other thread
  // may write the outputs: the residual may lie in their place.
  template <int V>
  __device__ void add_bias_and_activate(float (&sum)[V], const addends<V>& more) const {
#pragma unroll
    for (int i = 0; i < V; ++i) sum[i] += more.bias[i];
    activate<V>(kind, sum);
  }
  template <int V>
  __device__ void multiply_by_up(int row, int feature, float (&gate)[V], const float (&up)[V]) const {
    float up_bias[V] = {};
    if (bias && row >= 0) read<V>(up_bias, bias + out_features + feature, feature);
#pragma unroll
    for (int i = 0; i < V; ++i) gate[i] *= up[i] + up_bias[i];
  }
  template <int V>
  __device__ void write(int row, int feature, float (&value)[V], const addends<V>& more) const {
    if (row < 0) return;
    Out* to = out.at(row, feature);
#pragma unroll
    for (int i = 0; i < V; ++i) value[i] += more.residual[i];
    if constexpr (V == 4)
      if (fours) return store<V>(to, value);
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (V == 1 || feature + i < out_features) to[i] = narrow<Out>(value[i]);
  }

  // Those of V neighbours from `feature` on that there are.
  template <int V, class E>
  __device__ void read(float (&to)[V], const E* from, int feature) const {
    if constexpr (V == 4)
      if (fours) return load<V>(from, to);
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (V == 1 || feature + i < out_features) to[i] = widen(from[i]);
  }
#endif

  // From the given row of x, out and residual on.
  void skip(int64_t count) {
    x.data += count * x.stride;
    out.data += count * out.stride;
    if (residual) residual.data += count * residual.stride;
  }
};

template <class T>
bool in_fours(const row_view<T>& t) {
  return reinterpret_cast<uintptr_t>(t.data) % (4 * sizeof(T)) == 0 && t.stride % 4 == 0;
}

template <class T, class Out>
few_rows_problem<T, Out> few_rows_of(const product& l) {
  const cuda_weight& weight = l.weight;
  if (weight.in_features > 0x7fffffff || weight.out_features > 0x7fffffff)
    fail(FT_ERROR_UNSUPPORTED, "linear: the weight is too large");
  few_rows_problem<T, Out> p{.x = rows_of<const T>(l.x),
                             .weight = weight.values.as<const T>(),
                             .out = rows_of<Out>(l.out),
                             .bias = l.bias,
                             .kind = l.activation,
                             .gated = l.gated,
                             .rows = static_cast<int>(l.x.dim(0)),
                             .in_features = static_cast<int>(weight.in_features),
                             .out_features = static_cast<int>(l.out.dim(1))};
  if (l.residual) p.residual = rows_of<const Out>(l.residual);
  p.fours = in_fours(p.out) && in_fours(p.residual) && reinterpret_cast<uintptr_t>(p.bias) % (4 * sizeof(float)) == 0 &&
            p.out_features % 4 == 0;
  return p;
}

}  // namespace ft::cuda
