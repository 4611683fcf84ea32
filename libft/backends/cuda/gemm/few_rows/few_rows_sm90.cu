// A few rows times the weights at the speed of reading the weights once, on compute capability 9.0 and newer.
//
// What makes the speed is that enough bytes are under way at any time, and not more: two threads of a block have tiles
// copied through a ring of stages while the other warps multiply. The weights, which no kernel writes, are fetched
// before the kernel that writes the rows has ended, so that its time is not lost. But a request waits for all that the
// memory was asked for before it: with whole rings under way a small kernel that reads a few bytes takes ten
// microseconds. So only as many weights are asked for at once as keep the memory busy.
#include "backends/cuda/gemm/few_rows/few_rows.h"
#include "backends/cuda/gemm/few_rows/tiles.h"
#include "backends/cuda/gemm/tiled_tensor_map.h"
#include "backends/cuda/gemm/tma_load.h"

namespace ft::cuda {
namespace {

#if __CUDA_ARCH__ >= 900

template <class T, class Out, int N>
struct tile_feeder {
  const tile_block<T, Out, N>& b;
  stage_barriers barriers;

  __device__ void feed_weights(const tiled_tensor_map& weights) const {
    const tile_cut c = b.c;
#pragma unroll 1
    for (int i = 0, chunks = b.chunks(); i < chunks; ++i) {
      barriers.await_empty(i);
      if (i >= c.ahead) barriers.await_weights(i - c.ahead);
      arrive_expecting(barriers.weights_full(i), b.features * c.chunk * 2);
      for (int j = 0; j < c.chunk / slab; j += weights.slabs) {
        char* to = b.stage(i) + j * b.features * 128;
        const int column = i * c.chunk + j * slab;
        const uint32_t full = shared_address(&barriers.weights_full(i));
        tma_load(to, weights, column, b.first, full, read_once);
        if (b.p.gated) tma_load(to + c.outputs * 128, weights, column, b.p.out_features + b.first, full, read_once);
      }
    }
  }
  __device__ void feed_rows(const tiled_tensor_map& x) const {
    const tile_cut c = b.c;
#pragma unroll 1
    for (int i = 0, chunks = b.chunks(); i < chunks; ++i) {
      barriers.await_empty(i);
      arrive_expecting(barriers.rows_full(i), b.rows * c.chunk * 2);
      for (int j = 0; j < c.chunk / slab; j += x.slabs)
        tma_load(b.x_of(i) + j * b.rows * 128, x, i * c.chunk + j * slab, 0, shared_address(&barriers.rows_full(i)),
                 read_often);
    }
  }
};

#endif

template <class T, class Out, int N>
__global__ void __launch_bounds__(32 * (most_tile_warps + 2), 1)
    copy_and_multiply(const __grid_constant__ few_rows_problem<T, Out> p, const __grid_constant__ tile_cut c,
                      const __grid_constant__ tiled_tensor_map weights, const __grid_constant__ tiled_tensor_map x) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char ring[];
  const tile_block<T, Out, N> b(p, c, ring);
  const int warps = c.feature_warps * c.input_warps, thread = static_cast<int>(threadIdx.x) - 32 * warps;
  const stage_barriers barriers{reinterpret_cast<uint64_t*>(ring + c.stages * c.stage_bytes(b.rows)), c.stages};
  const tile_feeder<T, Out, N> feeder{b, barriers};
  if (thread == 0) {
    prefetch_map(weights);
    barriers.create(warps);
  }
  if (thread == 32) prefetch_map(x);
  __syncthreads();
  if (thread == 0) {
    admit_next_kernel();
    feeder.feed_weights(weights);
  }
  await_previous_kernel();
  if (thread == 32) feeder.feed_rows(x);
  tile_join<T, Out, N> join(b);
  const auto more = join.first.added(p);
  tile_sums<T, Out, N> sums(c);
  if (join.has_sums)
#pragma unroll 1
    for (int i = 0, chunks = b.chunks(); i < chunks; ++i) {
      barriers.await_weights(i);
      barriers.await_rows(i);
      sums.multiply(b, i);
      __syncwarp();
      if (threadIdx.x % 32 == 0) barriers.release(i);
    }
  join.run(sums, more);
#endif
}

}  // namespace

void multiply_few_rows_sm90(exec& ex, const product& l) {
  const cuda_weight& weight = l.weight;
  tile_cut c = cut_for(weight);
  with_tiles(l, [&]<class T, class Out>(const few_rows_problem<T, Out>& p, auto n) {
    constexpr int rows = 8 * n.value;
    const launch_shape shape = tile_launch(c, p, rows, 3 * most_stages * int{sizeof(uint64_t)}, 2);
    launch_kernel(
        ex, "linear", shape, copy_and_multiply<T, Out, n.value>, p, c,
        tensor_map_of_tiles(p.weight, weight.values.type, weight.out_features, p.in_features, p.in_features, c.outputs,
                            p.gated ? 1 : c.chunk / slab),  // gate's and up's features of one slab after the other
        tensor_map_of_tiles(p.x.data, weight.values.type, p.rows, p.in_features,
                            p.rows == 1 ? p.in_features : p.x.stride, rows, c.chunk / slab));
  });
}

}  // namespace ft::cuda
