// argmax: a block a row; its threads keep the best of what they see, then join.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/launch.h"

namespace ft::cuda {
namespace {

constexpr int threads = 1024;

struct best {
  float value;
  int index;  // -1: nothing yet
};

// Of equal values the lower index, whoever found it.
__device__ best better(best a, best b) {
  if (b.index < 0) return a;
  if (a.index < 0 || b.value > a.value || (b.value == a.value && b.index < a.index)) return b;
  return a;
}

__device__ best warp_best(best mine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    mine = better(
        mine, {__shfl_xor_sync(0xffffffffu, mine.value, distance), __shfl_xor_sync(0xffffffffu, mine.index, distance)});
  return mine;
}

template <int V>
__global__ void __launch_bounds__(threads) argmax_rows(int32_t* out, row_view<const float> x, int width) {
  __shared__ best of_warps[threads / 32];
  await_previous_kernel();
  const float* row = x.at(blockIdx.x);
  best mine{0, -1};
  for (int c = threadIdx.x * V; c < width; c += threads * V) {
    float v[V];
    load<V>(row + c, v);
#pragma unroll
    for (int i = 0; i < V; ++i)
      if (!isnan(v[i])) mine = better(mine, {v[i], c + i});
  }
  mine = warp_best(mine);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = mine;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  mine = warp_best(of_warps[threadIdx.x]);
  if (threadIdx.x == 0) out[blockIdx.x] = mine.index;
}

}  // namespace

void argmax(exec& ex, const argmax_args& a) {
  if (a.x.shape[0] == 0) return;
  with_width(in_vectors({&a.x}), [&](auto v) {
    launch_kernel(ex, "argmax", {grid_size(a.x.shape[0], "argmax"), threads}, argmax_rows<v.value>, a.out.as<int32_t>(),
                  rows_of<const float>(a.x), static_cast<int>(a.x.shape[1]));
  });
}

}  // namespace ft::cuda
