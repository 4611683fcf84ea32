// The tiles of wide_product.cu: what shared memory holds of one, which of them a block computes, and in what order.
#pragma once

#include "backends/cuda/gemm/tiled_tensor_map.h"
#include "backends/cuda/kernel/hopper.h"
#include "backends/cuda/kernel/vector.h"
#include "ops/activation.h"

namespace ft::cuda {

// `multiplying_groups` warpgroups of a block multiply, each 64 rows of a tile.
inline constexpr int group_threads = 128, group_rows = 64, multiplying_groups = 2,
                     tile_rows = multiplying_groups * group_rows;
inline constexpr int warps_in_group = group_threads / 32, finishing_warps = 3;
inline constexpr int block_threads = multiplying_groups * group_threads + (finishing_warps + 1) * 32;
inline constexpr int cluster_blocks = 2;
inline constexpr int tiles_down = 8;  // of clusters, in the square of tiles that are computed at a time

// In shared memory, for tiles of N columns; as many stages as fit.
template <class T, int N>
struct tile_layout {
  static constexpr int stages = N == 256 ? 4 : N == 192 ? 5 : 6;
  T x[stages][tile_rows][slab];
  T weights[stages][N][slab];
  T sums[N / slab][group_rows][slab];
  uint64_t full[stages], empty[stages];                                       // of the ring
  uint64_t written[multiplying_groups], taken[multiplying_groups][N / slab];  // `sums`, of each group in turn
};

// out = f(x · weightsᵀ + bias) + residual
template <class T>
struct wide_problem {
  CUtensorMap x, weights;
  row_view<T> out;
  row_view<const T> residual;
  const float* bias;
  activation_kind activation;
  int rows, out_features, in_features;
};

// The tiles that this block computes: number i of the cluster's are at (row, column).
template <int N>
struct block_tiles {
  int down, across, slabs;

  template <class T>
  __device__ explicit block_tiles(const wide_problem<T>& p)
      : down((p.rows + cluster_blocks * tile_rows - 1) / (cluster_blocks * tile_rows)),
        across((p.out_features + N - 1) / N),
        slabs((p.in_features + slab - 1) / slab) {}

  __device__ static uint32_t rank() { return blockIdx.x % cluster_blocks; }

  // f(row, column, i) for the i-th tile.
  template <class F>
  __device__ __forceinline__ void for_each(F&& f) const {
    const int clusters = gridDim.x / cluster_blocks;
    for (int i = 0, tile = blockIdx.x / cluster_blocks; tile < down * across; ++i, tile += clusters) {
      const int band = tile / (tiles_down * across), at = tile - band * tiles_down * across;
      const int height = min(tiles_down, down - band * tiles_down);
      const int row = band * tiles_down + at % height, column = at / height;
      f((row * cluster_blocks + static_cast<int>(rank())) * tile_rows, column * N, i);
    }
  }
};

}  // namespace ft::cuda
