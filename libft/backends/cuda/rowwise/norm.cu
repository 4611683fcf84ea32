// norm: LayerNorm and RMSNorm with the residual addition before them, in one pass over device memory.
//
// A row is a block's, or a warp's where rows are short (heads). It stays in registers, in float32, between the sums and
// the result. The number of threads follows from the width alone, and so does the order of the additions.
#include <algorithm>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int warps_a_block = 4;  // where a warp has a row
constexpr int most_threads = 1024;

template <class T>
struct norm_problem {
  head_view<const T> x, residual;
  head_view<T> sum, out;
  const float *weight, *bias;
  float epsilon, weight_offset;
  bool layer;
  int rows, heads, width;
};

// The sum over the threads that share a row.
template <bool warp_a_row>
__device__ float row_sum(float x, float* shared) {
  if constexpr (warp_a_row)
    return warp_reduce(x, add_up{});
  else
    return block_reduce(x, add_up{}, 0, shared);
}

// Held: the vectors of V elements that a thread has of a row.
template <class T, int V, int Held, bool warp_a_row>
__global__ void __launch_bounds__(warp_a_row ? 32 * warps_a_block : most_threads) norm_rows(const norm_problem<T> p) {
  __shared__ float partial[32];
  const int threads = warp_a_row ? 32 : blockDim.x;
  const int thread = warp_a_row ? threadIdx.x % 32 : threadIdx.x;
  // The norm's own weights come from no other kernel: they are fetched while the one before ends.
  float weight[V] = {}, bias[V] = {};
  const auto load_weights = [&](int c) {
    load<V>(p.weight + c, weight);
    if (p.bias) load<V>(p.bias + c, bias);
  };
  if (Held == 1 && thread * V < p.width) load_weights(thread * V);
  await_previous_kernel();
  const int64_t i = warp_a_row ? int64_t{blockIdx.x} * warps_a_block + threadIdx.x / 32 : blockIdx.x;
  if (i >= int64_t{p.rows} * p.heads) return;  // a whole warp: nobody waits for it
  const int64_t row = p.heads == 1 ? i : i / p.heads, head = p.heads == 1 ? 0 : i % p.heads;

  float kept[Held][V], total = 0;
#pragma unroll
  for (int h = 0; h < Held; ++h) {
    const int c = (thread + h * threads) * V;
    if (c >= p.width) break;
    float r[V] = {};
    load<V>(p.x.at(row, head) + c, kept[h]);
    if (p.residual) load<V>(p.residual.at(row, head) + c, r);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      kept[h][k] += r[k];
      total += kept[h][k];
    }
    if (p.sum) store<V>(p.sum.at(row, head) + c, kept[h]);
  }
  const float mean = p.layer ? row_sum<warp_a_row>(total, partial) / p.width : 0;

  float squares = 0;
#pragma unroll
  for (int h = 0; h < Held; ++h) {
    if ((thread + h * threads) * V >= p.width) break;
#pragma unroll
    for (int k = 0; k < V; ++k) squares += (kept[h][k] - mean) * (kept[h][k] - mean);
  }
  const float scale = rsqrtf(row_sum<warp_a_row>(squares, partial) / p.width + p.epsilon);

#pragma unroll
  for (int h = 0; h < Held; ++h) {
    const int c = (thread + h * threads) * V;
    if (c >= p.width) break;
    if (Held > 1) load_weights(c);
#pragma unroll
    for (int k = 0; k < V; ++k) kept[h][k] = (kept[h][k] - mean) * scale * (weight[k] + p.weight_offset) + bias[k];
    store<V>(p.out.at(row, head) + c, kept[h]);
  }
}

template <class T, int V>
void launch_norm(exec& ex, const norm_problem<T>& p) {
  const int64_t rows = int64_t{p.rows} * p.heads, vectors = p.width / V;
  const auto threads = static_cast<unsigned>(std::min<int64_t>(ceil_div(vectors, 32) * 32, most_threads));
  const launch_shape shape{grid_size(rows, "norm"), threads};
  if (vectors <= 32)
    launch_kernel(ex, "norm", {grid_size(ceil_div(rows, warps_a_block), "norm"), 32 * warps_a_block},
                  norm_rows<T, V, 1, true>, p);
  else if (vectors <= most_threads)
    launch_kernel(ex, "norm", shape, norm_rows<T, V, 1, false>, p);
  else if (vectors <= 4 * most_threads)
    launch_kernel(ex, "norm", shape, norm_rows<T, V, 4, false>, p);
  else if (V == 1 && vectors <= 32 * most_threads)
    launch_kernel(ex, "norm", shape, norm_rows<T, 1, 32, false>, p);
  else
    fail(FT_ERROR_UNSUPPORTED, "norm: rows of ", p.width, " elements are too wide; a GPU's take up to ",
         4 * vector_width * most_threads);
}

}  // namespace

void norm(exec& ex, const norm_args& a) {
  if (a.x.size() == 0) return;
  with_float(a.x.type, [&](auto element) {
    using T = decltype(element);
    norm_problem<T> p;
    p.x = heads_of<const T>(a.x);
    p.residual = heads_of<const T>(a.residual);
    p.sum = heads_of<T>(a.sum);
    p.out = heads_of<T>(a.out);
    p.weight = a.weight;
    p.bias = a.bias;
    p.epsilon = a.epsilon;
    p.weight_offset = a.weight_offset;
    p.layer = a.kind == norm_kind::layer;
    p.rows = static_cast<int>(a.x.shape[0]);
    p.heads = a.x.rank == 3 ? static_cast<int>(a.x.shape[1]) : 1;
    p.width = static_cast<int>(a.x.dim(-1));
    const bool wide = in_vectors({&a.x, &a.residual, &a.sum, &a.out}) && in_vectors(a.weight) && in_vectors(a.bias);
    with_width(wide, [&](auto v) { launch_norm<T, v.value>(ex, p); });
  });
}

}  // namespace ft::cuda
