// A few rows times the weights at the speed of reading the weights once, on compute capability 9.0 and newer.
//
// What makes the speed is that enough bytes are under way at any time: one thread of a block has tiles copied through a
// ring of stages while the other warps multiply. That includes the time between two kernels: a block fills its ring
// with weights, which no kernel writes, before it waits for the kernel that writes its rows.
#include "backends/cuda/gemm/few_rows_tiles.h"
#include "backends/cuda/gemm/tile_copy.h"
#include "backends/cuda/gemm/tile_map.h"

namespace ft::cuda {
namespace {

template <class T, class Out, int N>
struct tile_feeder {
  const tile_block<T, Out, N>& b;
  const tile_map &weights, &x;
  stage_barriers barriers;

  __device__ int k(int stage) const { return b.begin + stage * b.c.chunk; }

  __device__ void load_weights(int i) const {
    barriers.expect(i, b.c.stage_bytes(b.rows));
    for (int j = 0; j < b.c.chunk / slab; j += weights.slabs)
      copy_tile(b.stage(i) + j * b.features * 128, weights, k(i) + j * slab, b.first, barriers.full(i), read_once);
  }
  __device__ void load_rows(int i) const {
    for (int j = 0; j < b.c.chunk / slab; j += x.slabs)
      copy_tile(b.x_of(i) + j * b.rows * 128, x, k(i) + j * slab, 0, barriers.full(i), read_often);
  }

  __device__ int chunks_ahead() const { return min(b.c.stages, b.chunks()); }

  // Both for one thread, start() before a __syncthreads() and before the kernel before this one has ended.
  __device__ void start(int warps) const {
    prefetch_map(weights);
    prefetch_map(x);
    barriers.create(warps);
    for (int i = 0, ahead = chunks_ahead(); i < ahead; ++i) load_weights(i);
  }
  __device__ void feed() const {
    const int chunks = b.chunks(), ahead = chunks_ahead();
    for (int i = 0; i < ahead; ++i) load_rows(i);
    for (int i = ahead; i < chunks; ++i) {
      barriers.await_empty(i);
      load_weights(i);
      load_rows(i);
    }
  }
};

template <class T, class Out, int N>
__global__ void __launch_bounds__(32 * (most_tile_warps + 1), 1)
    copy_and_multiply(const __grid_constant__ few_rows_problem<T, Out> p, const __grid_constant__ tile_cut c,
                      const __grid_constant__ tile_map weights, const __grid_constant__ tile_map x) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) char ring[];
  const tile_block<T, Out, N> b(p, c, ring);
  const int warps = c.feature_warps * c.input_warps;
  const stage_barriers barriers{reinterpret_cast<uint64_t*>(ring + c.stages * c.stage_bytes(b.rows)), c.stages};
  const tile_feeder<T, Out, N> feeder{b, weights, x, barriers};
  const bool multiplies = static_cast<int>(threadIdx.x) < 32 * warps, feeds = threadIdx.x == 32 * warps;
  if (feeds) feeder.start(warps);
  __syncthreads();
  await_previous_kernel();
  tile_sums<T, Out, N> sums(c);
  if (feeds) feeder.feed();
  if (multiplies)
    for (int i = 0, chunks = b.chunks(); i < chunks; ++i) {
      barriers.await_full(i);
      sums.multiply(b, i);
      __syncwarp();
      if (threadIdx.x % 32 == 0) barriers.release(i);
    }
  join_tiles(b, sums, multiplies);
#endif
}

}  // namespace

void multiply_copied_tiles(exec& ex, const linear_args& l, const cuda_weight& weight, tile_cut c) {
  with_tiles(l, weight, [&]<class T, class Out>(const few_rows_problem<T, Out>& p, auto n) {
    constexpr int rows = 8 * n.value;
    const launch_shape shape = tile_launch(c, p.out_features, rows, 2 * most_stages * int{sizeof(uint64_t)}, 1);
    launch_kernel(
        ex, "linear", shape, copy_and_multiply<T, Out, n.value>, p, c,
        map_of_tiles(p.weight, weight.type, p.out_features, p.in_features, p.in_features, c.features(), c.chunk / slab),
        map_of_tiles(p.x.data, weight.type, p.rows, p.in_features, p.rows == 1 ? p.in_features : p.x.stride, rows,
                     c.chunk / slab));
  });
}

}  // namespace ft::cuda
