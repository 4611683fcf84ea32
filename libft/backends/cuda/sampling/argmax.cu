// argmax: several blocks a row find the best of a part each, then one warp a row the best of these.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/sampling/ranking.h"

namespace ft::cuda {
namespace {

template <int V>
__global__ void __launch_bounds__(part_threads)
    best_of_parts(ranked* bests, row_view<const float> x, int width, int part) {
  __shared__ ranked of_warps[part_threads / 32];
  await_previous_kernel();
  const int end = min((static_cast<int>(blockIdx.x) + 1) * part, width);
  const float* row = x.at(blockIdx.y);
  ranked mine = 0;
  for (int c = blockIdx.x * part + threadIdx.x * V; c < end; c += part_threads * V) {
    float v[V];
    load<V>(row + c, v);
#pragma unroll
    for (int i = 0; i < V; ++i) mine = max(mine, rank_of(v[i], c + i));
  }
  mine = warp_best(mine);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  mine = warp_best(of_warps[threadIdx.x % (part_threads / 32)]);
  if (threadIdx.x == 0) bests[blockIdx.y * static_cast<int64_t>(gridDim.x) + blockIdx.x] = mine;
}

__global__ void __launch_bounds__(32) best_of_rows(int32_t* out, const ranked* bests, int parts) {
  await_previous_kernel();
  const int64_t row = blockIdx.x;
  ranked mine = 0;
  for (int i = threadIdx.x; i < parts; i += 32) mine = max(mine, bests[row * parts + i]);
  mine = warp_best(mine);
  if (threadIdx.x == 0) out[row] = index_of(mine);
}

}  // namespace

void argmax(exec& ex, const argmax_args& a) {
  const int64_t rows = a.x.shape[0], width = a.x.shape[1];
  if (rows == 0) return;
  const row_parts parts(width);
  const dim3 grid = parts.grid(rows, "argmax");
  arena::scope scope(ex.scratch);
  auto* bests = ex.scratch.make<ranked>(rows * parts.count);
  with_width(in_vectors({&a.x}), [&](auto v) {
    launch_kernel(ex, "argmax", {grid, part_threads}, best_of_parts<v.value>, bests, rows_of<const float>(a.x),
                  static_cast<int>(width), static_cast<int>(parts.size));
  });
  launch_kernel(ex, "argmax", {grid_size(rows, "argmax"), 32}, best_of_rows, a.out.as<int32_t>(), bests,
                static_cast<int>(parts.count));
}

}  // namespace ft::cuda
