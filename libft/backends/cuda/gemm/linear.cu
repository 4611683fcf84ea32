// linear and gated_linear: which kernel computes a product, by the weight's format and the number of rows. gated_linear
// is computed as linear of the same weight would be: by the same kernel where that gates by itself, else by linear and
// a pass that gates.
#include <limits>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/gemm/cublas_lt/matmul.h"
#include "backends/cuda/gemm/few_rows/few_rows.h"
#include "backends/cuda/gemm/some_rows/some_rows.h"
#include "backends/cuda/gemm/wide_product/wide_product.h"
#include "backends/cuda/kernel/activate.h"
#include "backends/cuda/kernel/launch.h"

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
void finish(exec& ex, const product& a) {
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

// Followed by a pass that adds what cuBLASLt does not.
void multiply_by_cublas_lt(exec& ex, const product& p) {
  arena::scope scope(ex.scratch);
  product alone = p;
  if (p.activation != activation_kind::none && p.residual)  // which may lie in out
    alone.out = ex.scratch.make(p.out.type, {p.rows(), p.weight.out_features});
  product left = matmul(ex, alone);
  left.out = p.out;
  if (left.bias || left.residual || left.activation != activation_kind::none) finish(ex, left);
}

bool any(const product&) { return true; }

struct product_kernel {
  weight_kind format;
  int64_t most_rows;
  bool gates;                     // by itself, where a product is gated
  bool (*takes)(const product&);  // of such a format and so many rows
  void (*multiply)(exec&, const product&);
};

constexpr int64_t no_bound = std::numeric_limits<int64_t>::max();

// The first that takes a product computes it.
constexpr product_kernel kernels[] = {
    {weight_kind::dense, most_few_rows, true, few_rows_sm90_take, multiply_few_rows_sm90},
    {weight_kind::dense, most_few_rows, false, few_rows_sm80_take, multiply_few_rows_sm80},
    {weight_kind::dense, no_bound, false, few_rows_take, multiply_few_rows},
    {weight_kind::dense, most_some_rows, true, some_rows_take, multiply_some_rows},
    {weight_kind::dense, no_bound, false, wide_product_takes, multiply_wide},
    {weight_kind::dense, no_bound, false, any, multiply_by_cublas_lt},
};

const product_kernel* kernel_for(const product& p) {
  if (p.x.type != p.weight.values.type) return nullptr;
  for (const product_kernel& k : kernels)
    if (k.format == p.weight.format.kind && p.rows() <= k.most_rows && k.takes(p)) return &k;
  return nullptr;
}

}  // namespace

void linear(exec& ex, const linear_args& a) {
  const product p = product_of(a);
  if (p.rows() == 0 || p.weight.out_features == 0) return;
  const product_kernel* kernel = kernel_for(p);
  if (!kernel) fail(FT_ERROR_INTERNAL, "linear: x is ", name(a.x.type), ", the weight ", a.weight->format.name);
  kernel->multiply(ex, p);
}

bool gated_linear(exec& ex, const gated_linear_args& a) {
  const product p = product_of(a);
  if (p.rows() == 0 || p.weight.out_features == 0) return true;
  const product_kernel* kernel = kernel_for(p);
  if (!kernel || !kernel->gates) return false;
  kernel->multiply(ex, p);
  return true;
}

}  // namespace ft::cuda
