// norm: LayerNorm and RMSNorm with the residual addition before them, in one pass over device memory.
//
// A row is a block's, or a warp's where rows are short (heads). It waits in shared memory, in float32, between the
// sums and the result; each thread reads back what it wrote itself. The number of threads follows from the width
// alone, and so does the order of the additions.
#include <algorithm>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/reduce.h"

namespace ft::cuda {
namespace {

constexpr int warps_a_block = 4;             // where a warp has a row
constexpr int64_t widest_for_a_warp = 1024;  // elements: four vectors of eight a lane

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

template <class T, int V, bool warp_a_row>
__global__ void norm_rows(const norm_problem<T> p) {
  extern __shared__ float4 shared_vectors[];
  __shared__ float partial[32];
  await_previous_kernel();
  const int threads = warp_a_row ? 32 : blockDim.x;
  const int thread = warp_a_row ? threadIdx.x % 32 : threadIdx.x;
  const int64_t i = warp_a_row ? int64_t{blockIdx.x} * warps_a_block + threadIdx.x / 32 : blockIdx.x;
  if (i >= int64_t{p.rows} * p.heads) return;  // a whole warp: nobody waits for it
  const int64_t row = p.heads == 1 ? i : i / p.heads, head = p.heads == 1 ? 0 : i % p.heads;
  float* kept = reinterpret_cast<float*>(shared_vectors) + (warp_a_row ? threadIdx.x / 32 * p.width : 0);

  float total = 0;
  for (int c = thread * V; c < p.width; c += threads * V) {
    float v[V], r[V] = {};
    load<V>(p.x.at(row, head) + c, v);
    if (p.residual) load<V>(p.residual.at(row, head) + c, r);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      v[k] += r[k];
      total += v[k];
    }
    store<V>(kept + c, v);
    if (p.sum) store<V>(p.sum.at(row, head) + c, v);
  }
  const float mean = p.layer ? row_sum<warp_a_row>(total, partial) / p.width : 0;

  float squares = 0;
  for (int c = thread * V; c < p.width; c += threads * V) {
    float v[V];
    load<V>(static_cast<const float*>(kept + c), v);
#pragma unroll
    for (int k = 0; k < V; ++k) squares += (v[k] - mean) * (v[k] - mean);
  }
  const float scale = 1 / sqrtf(row_sum<warp_a_row>(squares, partial) / p.width + p.epsilon);

  for (int c = thread * V; c < p.width; c += threads * V) {
    float v[V], w[V], b[V] = {};
    load<V>(static_cast<const float*>(kept + c), v);
    load<V>(p.weight + c, w);
    if (p.bias) load<V>(p.bias + c, b);
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = (v[k] - mean) * scale * (w[k] + p.weight_offset) + b[k];
    store<V>(p.out.at(row, head) + c, v);
  }
}

template <class T, int V>
void launch_norm(exec& ex, const norm_problem<T>& p) {
  const int64_t rows = int64_t{p.rows} * p.heads;
  const size_t row_bytes = sizeof(float) * static_cast<size_t>(p.width);
  if (p.width <= widest_for_a_warp / vector_width * V) {
    launch_kernel(ex, "norm",
                  {grid_size(ceil_div(rows, warps_a_block), "norm"), 32 * warps_a_block, warps_a_block * row_bytes},
                  norm_rows<T, V, true>, p);
  } else {
    const auto threads = static_cast<unsigned>(std::min<int64_t>(ceil_div(p.width / V, 32) * 32, V > 1 ? 512 : 1024));
    launch_kernel(ex, "norm, its rows in shared memory", {grid_size(rows, "norm"), threads, row_bytes},
                  norm_rows<T, V, false>, p);
  }
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
