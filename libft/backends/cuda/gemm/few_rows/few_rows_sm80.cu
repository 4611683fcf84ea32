// A few rows times the weights on tensor cores: how the product is cut, and the kernel for compute capability 8, where
// all threads of a block copy the stages, 16 bytes at a time.
#include "backends/cuda/gemm/few_rows/few_rows.h"
#include "backends/cuda/gemm/few_rows/tiles.h"

namespace ft::cuda {
namespace {

template <class T, class Out, int N>
struct tile_copier {
  const tile_block<T, Out, N>& b;

  __device__ void load_weights(int i) const {
    const int vector = threadIdx.x % 8;
    for (int j = 0; j < b.c.chunk; j += slab)
      for (int r = threadIdx.x / 8; r < b.features; r += blockDim.x / 8) {
        const int k = i * b.c.chunk + j + 8 * vector;
        const bool inside = k < b.p.in_features && b.first + r < b.p.out_features;
        copy_async(b.stage(i) + (j / slab * b.features + r) * 128 + (vector ^ r % 8) * 16,
                   b.p.weight + (inside ? int64_t{b.first + r} * b.p.in_features + k : 0), inside);
      }
  }
  __device__ void load_rows(int i) const {
    const int vector = threadIdx.x % 8;
    for (int row = threadIdx.x / 8; row < b.rows * b.c.chunk / slab; row += blockDim.x / 8) {
      const int r = row % b.rows, k = i * b.c.chunk + row / b.rows * slab + 8 * vector;
      const bool inside = k < b.p.in_features && r < b.p.rows;
      copy_async(b.x_of(i) + row * 128 + (vector ^ r % 8) * 16, inside ? b.p.x.at(r, k) : b.p.x.data, inside);
    }
  }
};

// The number of groups that may be under way has to be known when this is compiled.
template <int Most = most_stages - 2>
__device__ void await_copies_but(int pending) {
  if constexpr (Most > 0) {
    if (pending < Most) return await_copies_but<Most - 1>(pending);
  }
  await_copies<Most>();
}

template <class T, class Out, int N>
__global__ void __launch_bounds__(32 * most_tile_warps, 1)
    multiply_tiles(const __grid_constant__ few_rows_problem<T, Out> p, const __grid_constant__ tile_cut c) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ __align__(1024) char ring[];
  const tile_block<T, Out, N> b(p, c, ring);
  const tile_copier<T, Out, N> copier{b};
  const int chunks = b.chunks(), ahead = c.stages - 1;
  for (int i = 0; i < min(ahead, chunks); ++i) copier.load_weights(i);
  await_previous_kernel();
  for (int i = 0; i < ahead; ++i) {
    if (i < chunks) copier.load_rows(i);
    commit_copies();
  }
  tile_join<T, Out, N> join(b);
  const auto more = join.first.added(p);
  tile_sums<T, Out, N> sums(c);
  for (int i = 0; i < chunks; ++i) {
    await_copies_but(ahead - 1);
    __syncthreads();  // the stage is there, and nobody reads the one before it any more
    if (i + ahead < chunks) {
      copier.load_weights(i + ahead);
      copier.load_rows(i + ahead);
    }
    commit_copies();
    sums.multiply(b, i);
  }
  await_copies<0>();
  join.run(sums, more);
#endif
}

constexpr int most_tiles = most_tile_warps, usual_warps = 8;

}  // namespace

// As even over the multiprocessors as can be: one block each, which takes most of the shared memory; or several, two of
// them at a time, where one would have to sum too many features.
tile_cut cut_for(const cuda_weight& weight) {
  const int64_t tiles = ceil_div(weight.out_features, tile),
                processors = device_attribute(cudaDevAttrMultiProcessorCount);
  int64_t blocks = 1;
  while (ceil_div(tiles, processors * blocks) > most_tiles) ++blocks;
  const bool copies_tiles = capabilities().tile_copies;
  const int parts = copies_tiles && blocks == 1 ? 1 : 2;  // of a multiprocessor
  tile_cut c{};
  c.ring_bytes = (copies_tiles ? 208 : 196) * 1024 / parts;
  c.ahead_bytes = 96 * 1024 / parts;
  c.feature_warps = static_cast<int>(ceil_div(tiles, processors * blocks));
  c.input_warps = std::max(1, usual_warps / c.feature_warps);
  const int step = std::max(slab, c.input_warps * 32), stage_bytes = 32 * 1024 / parts;  // of weights, about
  const int64_t usual = stage_bytes / (c.features() * 2), four = ceil_div(weight.in_features, 4);
  c.chunk = static_cast<int>(std::max<int64_t>(1, std::min(usual / step, ceil_div(four, step)))) * step;
  return c;
}

void multiply_few_rows_sm80(exec& ex, const product& l) {
  tile_cut c = cut_for(l.weight);
  with_tiles(l, [&]<class T, class Out>(const few_rows_problem<T, Out>& p, auto n) {
    const launch_shape shape = tile_launch(c, p, 8 * n.value, 0, 0);
    launch_kernel(ex, "linear", shape, multiply_tiles<T, Out, n.value>, p, c);
  });
}

}  // namespace ft::cuda
