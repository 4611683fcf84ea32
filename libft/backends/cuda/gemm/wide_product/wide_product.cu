// Matrix products of many rows on compute capability 9.0, with bias, activation and residual while the tensor cores
// are busy with the next tile.
//
// A block computes tiles of 128 rows and N columns, one after the other:
//   two warpgroups multiply 64 rows each, from a ring of stages in shared memory, and hand their sums over, rounded;
//   three warps finish the sums and write them to memory while the warpgroups are at the next tile;
//   a thread of one more keeps the ring full.
// The sums of one of the multiplying warpgroups at a time fit in shared memory beside the ring. So the second waits
// until those of the first are taken, panel by panel, and stays that much behind: one has products under way while the
// other hands over. Two blocks that share a multiprocessor's pair form a cluster: their tiles lie one below the other,
// each fetches half of the weights that both need, and the copies go to both.
//
// Tiles are taken in an order in which those that are computed at a time share rows and weights in the second-level
// cache.
#include "backends/cuda/gemm/cublas_lt/matmul.h"
#include "backends/cuda/gemm/wide_product/finish.h"
#include "backends/cuda/gemm/wide_product/wide_product.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/tensor_map.h"

namespace ft::cuda {
namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// One thread's work: copies x and weights to the ring.
template <class T, int N>
__device__ __forceinline__ void feed(tile_layout<T, N>& shared, const wide_problem<T>& p) {
  constexpr int stages = tile_layout<T, N>::stages, share = N / cluster_blocks;
  constexpr int bytes = sizeof(shared.x[0]) + sizeof(shared.weights[0]);
  const block_tiles<N> tiles(p);
  const int part = tiles.rank() * share, early = min(stages, tiles.slabs);
  const auto load_weights = [&](int stage, int column, int k) {
    arrive_expecting(shared.full[stage], bytes);
    tma_load_multicast((1 << cluster_blocks) - 1, shared.weights[stage][part], p.weights, k * slab, column + part,
                       shared.full[stage]);
  };
  prefetch_map(p.weights);
  prefetch_map(p.x);
  ring_place place;
  tiles.for_each([&](int row, int column, int i) {
    if (i == 0) {  // no kernel writes weights
      for (int k = 0; k < early; ++k) load_weights(k, column, k);
      await_previous_kernel();
    }
    for (int k = 0; k < tiles.slabs; ++k, place.advance(stages)) {
      if (i > 0 || k >= early) {
        mbarrier_wait(shared.empty[place.stage], place.parity ^ 1);
        load_weights(place.stage, column, k);
      }
      tma_load(shared.x[place.stage], p.x, k * slab, row, 0, shared.full[place.stage]);
    }
  });
}

// Sums of a warpgroup's 64 rows, rounded, to shared memory, once what the other wrote there is taken.
template <class T, int N>
__device__ __forceinline__ void hand_over(tile_layout<T, N>& shared, const float (&sums)[N / 2], int group,
                                          int parity) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x % group_threads / 32;
  const int row = warp * 16 + lane % 16, vector = (lane / 16) ^ (lane % 8);
#pragma unroll
  for (int n = 0; n < N / 16; ++n) {
    if (n % 4 == 0) mbarrier_wait(shared.taken[group ^ 1][n / 4], parity);
    const float* c = &sums[8 * n];
    store_matrices(&shared.sums[n / 4][row][(vector ^ n % 4 * 2) * 8], pack_pair<T>(c[0], c[1]),
                   pack_pair<T>(c[2], c[3]), pack_pair<T>(c[4], c[5]), pack_pair<T>(c[6], c[7]));
  }
  __syncwarp();
  if (lane == 0) arrive(shared.written[group]);
}

// A multiplying warpgroup's work.
template <class T, int N>
__device__ __forceinline__ void multiply(tile_layout<T, N>& shared, const wide_problem<T>& p, int group) {
  const block_tiles<N> tiles(p);
  const int lane = threadIdx.x % 32;
  ring_place place;
  float sums[N / 2];
  const auto release = [&](int stage) {
    if (lane < cluster_blocks) arrive_in(lane, shared.empty[stage]);
  };
  tiles.for_each([&](int, int, int i) {
    int previous = 0;
    for (int k = 0; k < tiles.slabs; ++k) {
      mbarrier_wait(shared.full[place.stage], place.parity);
      begin_products();
#pragma unroll
      for (int c = 0; c < slab; c += 16)
        warpgroup_product<T, N>::multiply_tiles(sums, panel_rows(&shared.x[place.stage][group * group_rows][c]),
                                                panel_rows(&shared.weights[place.stage][0][c]), k > 0 || c > 0);
      commit_products();
      if (k > 0) {
        await_products<1>();
        release(previous);
      }
      previous = place.stage;
      place.advance(tile_layout<T, N>::stages);
    }
    await_products<0>();
    release(previous);
    // The other's sums to wait for are of the last tile for the first warpgroup, of this one for the second.
    hand_over<T, N>(shared, sums, group, (i & 1) ^ (group ^ 1));
  });
}

#endif

template <class T, int N>
__global__ void __launch_bounds__(block_threads, 1) multiply_and_finish(const __grid_constant__ wide_problem<T> p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<tile_layout<T, N>*>(shared_bytes);
  const int group = threadIdx.x / group_threads;
  if (threadIdx.x == 0) {
    for (int s = 0; s < tile_layout<T, N>::stages; ++s) {
      init_barrier(shared.full[s], 1);
      init_barrier(shared.empty[s], cluster_blocks * multiplying_groups * warps_in_group);
    }
    for (int g = 0; g < multiplying_groups; ++g) {
      init_barrier(shared.written[g], warps_in_group);
      for (uint64_t& panel : shared.taken[g]) init_barrier(panel, finishing_warps);
    }
    publish_barriers();
  }
  admit_next_kernel();
  sync_cluster();
  if (group < multiplying_groups) {
    leave_registers<160>();
    multiply<T, N>(shared, p, group);
  } else {
    take_registers<184>();
    if (threadIdx.x < block_threads - 32) {
      await_previous_kernel();
      p.residual ? finish_any<true>(shared, p) : finish_any<false>(shared, p);
    } else if (threadIdx.x == block_threads - 32) {
      feed<T, N>(shared, p);
    }
  }
  sync_cluster();  // a block's shared memory is there until the other has sent what it sends
#endif
}

// How a product is cut: into tiles of so many columns, for so many clusters of blocks, each of which computes at most
// `waves` of them. `cost` is the time that takes, in columns of a cluster's 256 rows: a tile takes its columns and what
// some 32 more would. `whole` is what the columns alone would take if all multiprocessors had as many.
struct tiling {
  int columns;
  int64_t clusters, waves;
  double cost, whole;
};

tiling best_tiling(const product& a) {
  const int64_t most_clusters = device_attribute(cudaDevAttrMultiProcessorCount) / cluster_blocks;
  constexpr int rows = cluster_blocks * tile_rows;
  const double whole = static_cast<double>(a.x.dim(0)) / rows * static_cast<double>(a.weight.out_features) /
                       static_cast<double>(most_clusters);
  tiling best{};
  for (int n : {256, 192, 128}) {
    const int64_t tiles = ceil_div(a.x.dim(0), rows) * ceil_div(a.weight.out_features, n);
    const int64_t clusters = std::min(tiles, most_clusters), waves = ceil_div(tiles, clusters);
    const double cost = static_cast<double>(waves * (n + 32));
    if (!best.columns || cost < best.cost) best = {n, clusters, waves, cost, whole};
  }
  return best;
}

// Whether cuBLASLt would take longer, by what was measured on H100. Small products it cuts in more ways.
bool gains(const product& a) {
  const tiling t = best_tiling(a);
  const double excess = t.cost / t.whole;
  // A pass over what it wrote takes the time of the products of some 400 input features.
  if (!matmul_finishes(a)) return excess <= 1.15 + 400. / static_cast<double>(a.weight.in_features);
  // What it adds before it writes, it adds while no products are under way: some 3 % of a product that is this short.
  const int64_t most_features = a.residual ? 4096 : a.bias ? 2048 : 0;
  return a.weight.in_features <= most_features && t.waves >= 3 && excess <= 1.17;
}

template <class T, int N>
void launch(exec& ex, const product& a, const tiling& t) {
  const cuda_weight& weight = a.weight;
  const int64_t rows = a.x.dim(0), in_features = weight.in_features, out_features = weight.out_features;
  const auto map = [&](const void* data, int64_t height, int64_t stride, int box_rows) {
    return map_of({.data = data,
                   .type = weight.values.type,
                   .size = {in_features, height, 1},
                   .stride = {stride, slab},
                   .box = {slab, box_rows, 1}});
  };
  const wide_problem<T> p{.x = map(a.x.data, rows, a.x.stride[0], tile_rows),
                          .weights = map(weight.values.data, out_features, in_features, N / cluster_blocks),
                          .out = rows_of<T>(a.out),
                          .residual = a.residual ? rows_of<const T>(a.residual) : row_view<const T>{},
                          .bias = a.bias,
                          .activation = a.activation,
                          .rows = static_cast<int>(rows),
                          .out_features = static_cast<int>(out_features),
                          .in_features = static_cast<int>(in_features)};
  launch_kernel(
      ex, "linear",
      {grid_size(t.clusters * cluster_blocks, "linear"), block_threads, sizeof(tile_layout<T, N>), cluster_blocks},
      multiply_and_finish<T, N>, p);
}

}  // namespace

bool wide_product_takes(const product& a) {
  return capabilities().warpgroup_products && a.x.type != dtype::f32 && a.out.type == a.x.type &&
         in_vectors({&a.x, &a.out, &a.residual}) && in_vectors(a.bias) && gains(a);
}

void multiply_wide(exec& ex, const product& a) {
  const tiling t = best_tiling(a);
  const auto multiply = [&](auto element) {
    using T = decltype(element);
    switch (t.columns) {
      case 256:
        return launch<T, 256>(ex, a, t);
      case 192:
        return launch<T, 192>(ex, a, t);
      default:
        return launch<T, 128>(ex, a, t);
    }
  };
  if (a.x.type == dtype::f16) return multiply(__half{});
  multiply(__nv_bfloat16{});
}

}  // namespace ft::cuda
