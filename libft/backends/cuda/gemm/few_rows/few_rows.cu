// The plain kernel, for what tensor cores do not take and for one row of a small matrix. A block computes a few
// features of all rows: its threads share the input features among them, each weight is read once, 16 bytes at a time
// and past the cache, and widened to float32. Activation, bias and residual come on top in the same kernel.
#include <algorithm>

#include "backends/cuda/gemm/cublas_lt/matmul.h"
#include "backends/cuda/gemm/few_rows/few_rows.h"
#include "backends/cuda/gemm/few_rows/problem.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int threads = 128, warps = threads / 32;
constexpr int64_t rows_at_once = 8;

// Weights are read once: they need not stay in the cache that the activations live in.
template <int V, class T>
__device__ pack<T, V> load_once(const T* from) {
  if constexpr (sizeof(T) * V == 16) {
    const uint4 bits = __ldcs(reinterpret_cast<const uint4*>(from));
    return *reinterpret_cast<const pack<T, V>*>(&bits);
  } else {
    return *reinterpret_cast<const pack<T, V>*>(from);
  }
}

// Rows of x and features of the block, vectors in flight a thread and feature.
template <class T, class Out, int Rows, int Features, int InFlight, int V>
__global__ void __launch_bounds__(threads) few_rows_kernel(const few_rows_problem<T, Out> a) {
  __shared__ float partial[warps][Rows * Features];
  const int first = blockIdx.x * Features, vectors = a.in_features / V;
  const T* weight[Features];
#pragma unroll
  for (int f = 0; f < Features; ++f) weight[f] = a.weight + int64_t{min(first + f, a.out_features - 1)} * a.in_features;
  // Weights come from no other kernel: the first of them are on their way while the one before ends.
#pragma unroll
  for (int u = 0; u < 2 * InFlight; ++u)
#pragma unroll
    for (int f = 0; f < Features; ++f)
      if (threadIdx.x + u * threads < vectors) prefetch(weight[f] + int64_t{threadIdx.x + u * threads} * V);
  await_previous_kernel();
  const int thread = static_cast<int>(threadIdx.x), feature = first + thread % Features;
  const int row = thread < Rows * Features && feature < a.out_features ? thread / Features : -1;
  const typename few_rows_problem<T, Out>::template addends<1> more(a, row, feature);

  float sum[Rows][Features] = {};
  for (int begin = threadIdx.x; begin < vectors; begin += threads * InFlight) {
    pack<T, V> w[InFlight][Features];
#pragma unroll
    for (int u = 0; u < InFlight; ++u)
#pragma unroll
      for (int f = 0; f < Features; ++f)
        if (begin + u * threads < vectors) w[u][f] = load_once<V>(weight[f] + int64_t{begin + u * threads} * V);
#pragma unroll
    for (int u = 0; u < InFlight; ++u) {
      const int vector = begin + u * threads;
      if (vector >= vectors) break;
      float wide[Features][V];
#pragma unroll
      for (int f = 0; f < Features; ++f)
#pragma unroll
        for (int i = 0; i < V; ++i) wide[f][i] = widen(w[u][f].at[i]);
#pragma unroll
      for (int r = 0; r < Rows; ++r) {
        float x[V];
        load<V>(a.x.at(r, int64_t{vector} * V), x);
#pragma unroll
        for (int f = 0; f < Features; ++f)
#pragma unroll
          for (int i = 0; i < V; ++i) sum[r][f] += x[i] * wide[f][i];
      }
    }
  }

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int r = 0; r < Rows; ++r)
#pragma unroll
    for (int f = 0; f < Features; ++f) {
      const float total = warp_reduce(sum[r][f], add_up{});
      if (lane == 0) partial[warp][r * Features + f] = total;
    }
  __syncthreads();
  if (row < 0) return;
  float total[1] = {};
#pragma unroll
  for (int i = 0; i < warps; ++i) total[0] += partial[i][threadIdx.x];
  a.add_bias_and_activate(total, more);
  a.write(row, feature, total, more);
}

template <int Rows, class T, class Out>
void launch(exec& ex, const few_rows_problem<T, Out>& a, bool wide) {
  constexpr int features = Rows <= 2 ? 2 : 4, in_flight = Rows <= 2 ? 2 : 1;
  const launch_shape shape{grid_size(ceil_div(a.out_features, features), "linear"), threads};
  if (wide)
    launch_kernel(ex, "linear", shape, few_rows_kernel<T, Out, Rows, features, in_flight, 16 / sizeof(T)>, a);
  else
    launch_kernel(ex, "linear", shape, few_rows_kernel<T, Out, Rows, features, in_flight, 1>, a);
}

// Calls f(constant<rows>), 1 <= rows <= rows_at_once: each number of rows has a kernel of its own.
template <int N = 1, class F>
void with_rows(int64_t rows, F&& f) {
  if (rows == N) return f(constant<N>{});
  if constexpr (N < rows_at_once) with_rows<N + 1>(rows, f);
}

template <class T, class Out>
void multiply(exec& ex, const product& p) {
  const bool wide = in_vectors({&p.x, &p.weight.values}, 16 / sizeof(T));
  auto problem = few_rows_of<T, Out>(p);
  for (int64_t left = problem.rows, rows; left > 0; left -= rows) {
    rows = std::min(left, rows_at_once);
    with_rows(rows, [&](auto r) { launch<r.value>(ex, problem, wide); });
    problem.skip(rows);
  }
}

// One row of such a matrix is bound by the time from a kernel's start to its end, which is a little shorter here than
// through a ring of stages (T5-3B's layers, whose matrices are 1024 wide or high: 63.7 us instead of 65.6).
bool is_small(const cuda_weight& weight) {
  return std::min(weight.in_features, weight.out_features) <= 2048 && weight.bytes <= size_t{40} << 20;
}

bool on_tensor_cores(const product& p) {
  if (p.rows() == 1 && is_small(p.weight)) return false;
  return p.x.type != dtype::f32 && in_vectors({&p.x, &p.weight.values}) && capabilities().tensor_cores;
}

}  // namespace

bool few_rows_sm90_take(const product& p) { return capabilities().tile_copies && on_tensor_cores(p); }
bool few_rows_sm80_take(const product& p) { return on_tensor_cores(p); }
bool few_rows_take(const product& p) { return p.rows() <= rows_at_once || !matmul_takes(p); }

void multiply_few_rows(exec& ex, const product& p) {
  with_float(p.x.type, [&](auto element) {
    using T = decltype(element);
    if (p.out.type == dtype::f32)
      multiply<T, float>(ex, p);
    else
      multiply<T, T>(ex, p);
  });
}

}  // namespace ft::cuda
