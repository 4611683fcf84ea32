// linear: few rows go to the kernels that read the weights once at the speed of memory (few_rows.cu, some_rows.cu).
// Many go to our own product where that gains by adding bias, activation and residual beside it (wide_product.cu), else
// to cuBLASLt, followed by a pass that adds what cuBLASLt does not. gated_linear is computed as linear of the same
// weight would be: by the same kernel for few or some rows where that gates by itself, else by linear and a pass that
// gates.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/gemm/few_rows.h"
#include "backends/cuda/gemm/matmul.h"
#include "backends/cuda/gemm/some_rows.h"
#include "backends/cuda/gemm/wide_product.h"
#include "backends/cuda/kernel/activate.h"
#include "backends/cuda/kernel/launch.h"
#include "ops/gated_linear.h"

namespace ft::cuda {
namespace {

// out = f(x + bias) + residual
template <class T, int V>
struct finish_vector {
  row_view<T> out;
  row_view<const T> x;
  row_view<const T> residual;
  const float* bias;
  activation_kind kind;

  __device__ void operator()(int64_t row, int column) const {
    float v[V], r[V] = {};
    load<V>(x.at(row, column), v);
    if (residual) load<V>(residual.at(row, column), r);
    if (bias) {
      float b[V];
      load<V>(bias + column, b);
#pragma unroll
      for (int i = 0; i < V; ++i) v[i] += b[i];
    }
    activate<V, T>(kind, v);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] += r[i];
    store<V>(out.at(row, column), v);
  }
};

// `out` may be x.
void finish(exec& ex, const linear_args& a) {
  with_float(a.out.type, [&](auto element) {
    using T = decltype(element);
    with_width(in_vectors({&a.out, &a.x, &a.residual}) && in_vectors(a.bias), [&](auto v) {
      launch_for_each<v.value>(
          ex, "linear", a.out.dim(0), a.out.dim(1),
          finish_vector<T, v.value>{rows_of<T>(a.out), rows_of<const T>(a.x),
                                    a.residual ? rows_of<const T>(a.residual) : row_view<const T>{}, a.bias,
                                    a.activation});
    });
  });
}

}  // namespace

void linear(exec& ex, const linear_args& a) {
  const cuda_weight& weight = on_gpu(*a.weight);
  const int64_t rows = a.x.dim(0);
  if (rows == 0 || weight.out_features == 0) return;
  if (a.x.type != weight.type)
    fail(FT_ERROR_INTERNAL, "linear: x is ", name(a.x.type), ", the weight ", name(weight.type));
  if (rows <= most_few_rows(a, weight) || !matmul_takes(a)) return multiply_few_rows(ex, a, weight);
  if (some_rows_take(a, weight)) return multiply_some_rows(ex, a, weight);
  if (wide_product_takes(a)) return multiply_wide(ex, a);
  arena::scope scope(ex.scratch);
  linear_args product = a;
  if (a.activation != activation_kind::none && a.residual)  // which may lie in out
    product.out = ex.scratch.make(a.out.type, {rows, weight.out_features});
  linear_args left = matmul(ex, product);
  left.out = a.out;
  if (left.bias || left.residual || left.activation != activation_kind::none) finish(ex, left);
}

// By the kernel that linear would choose, where that one gates.
bool gated_linear(exec& ex, const gated_linear_args& a) {
  const cuda_weight& weight = on_gpu(*a.weight);
  const int64_t rows = a.x.dim(0);
  if (rows == 0 || weight.out_features == 0) return true;
  const linear_args product{.out = a.out, .x = a.x, .weight = a.weight, .bias = a.bias, .activation = a.activation};
  if (a.x.type != weight.type) return false;
  const bool few = few_rows_can_be_gated(product, weight);
  if (!few && (rows <= most_few_rows(product, weight) || !some_rows_take(product, weight))) return false;
  few ? multiply_few_rows(ex, product, weight) : multiply_some_rows(ex, product, weight);
  return true;
}

}  // namespace ft::cuda
