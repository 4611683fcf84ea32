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
#include "backends/cuda/activate.h"
#include "backends/cuda/gemm/wide_product.h"
#include "backends/cuda/hopper.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/tensor_map.h"

namespace ft::cuda {
namespace {

constexpr int group_threads = 128, group_rows = 64, multiplying_groups = 2, tile_rows = multiplying_groups * group_rows;
constexpr int warps_in_group = group_threads / 32, finishing_warps = 3;
constexpr int block_threads = multiplying_groups * group_threads + (finishing_warps + 1) * 32;
constexpr int slab = 64;  // columns of a stage: 128 bytes
constexpr int cluster_blocks = 2;
constexpr int tiles_down = 8;  // of a cluster, in the square of tiles that are computed at a time

constexpr int stages_of(int n) { return n == 256 ? 4 : n == 192 ? 5 : 6; }

template <class T, int N>
struct tile_layout {
  static constexpr int stages = stages_of(N);
  T x[stages][tile_rows][slab];
  T weights[stages][N][slab];
  T sums[N / slab][group_rows][slab];
  uint64_t full[stages], empty[stages];                                       // of the ring
  uint64_t written[multiplying_groups], taken[multiplying_groups][N / slab];  // `sums`, of each group in turn
};

template <class T>
struct wide_problem {
  CUtensorMap x, weights;
  row_view<T> out;
  row_view<const T> residual;
  const float* bias;
  activation_kind activation;
  int rows, out_features, in_features;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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

// A stage of the ring, and which turn it is.
template <int Stages>
struct ring_place {
  int stage = 0, parity = 0;

  __device__ void advance() {
    if (++stage < Stages) return;
    stage = 0;
    parity ^= 1;
  }
};

// One thread's work: copies x and weights to the ring.
template <class T, int N>
__device__ __forceinline__ void feed(tile_layout<T, N>& shared, const wide_problem<T>& p) {
  constexpr int stages = tile_layout<T, N>::stages, share = N / cluster_blocks;
  constexpr int bytes = sizeof(shared.x[0]) + sizeof(shared.weights[0]);
  const block_tiles<N> tiles(p);
  const int part = tiles.rank() * share, early = min(stages, tiles.slabs);
  const auto load_weights = [&](int stage, int column, int k) {
    arrive_expecting(shared.full[stage], bytes);
    copy_box_to((1 << cluster_blocks) - 1, shared.weights[stage][part], p.weights, k * slab, column + part,
                shared.full[stage]);
  };
  prefetch_map(p.weights);
  prefetch_map(p.x);
  ring_place<stages> place;
  tiles.for_each([&](int row, int column, int i) {
    if (i == 0) {  // no kernel writes weights
      for (int k = 0; k < early; ++k) load_weights(k, column, k);
      await_previous_kernel();
    }
    for (int k = 0; k < tiles.slabs; ++k, place.advance()) {
      if (i > 0 || k >= early) {
        await(shared.empty[place.stage], place.parity ^ 1);
        load_weights(place.stage, column, k);
      }
      copy_box(shared.x[place.stage], p.x, k * slab, row, 0, shared.full[place.stage]);
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
    if (n % 4 == 0) await(shared.taken[group ^ 1][n / 4], parity);
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
  ring_place<tile_layout<T, N>::stages> place;
  float sums[N / 2];
  const auto release = [&](int stage) {
    if (lane < cluster_blocks) arrive_in(lane, shared.empty[stage]);
  };
  tiles.for_each([&](int, int, int i) {
    int previous = 0;
    for (int k = 0; k < tiles.slabs; ++k) {
      await(shared.full[place.stage], place.parity);
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
      place.advance();
    }
    await_products<0>();
    release(previous);
    // The other's sums to wait for are of the last tile for the first warpgroup, of this one for the second.
    hand_over<T, N>(shared, sums, group, (i & 1) ^ (group ^ 1));
  });
}

// A finishing thread's part of a panel: 16 bytes of some rows. A warp has four rows at a time, the next four are
// another warp's. Beside products that read shared memory at its full rate, and copies that fill it, every load takes
// long: all of a panel's are issued together, one panel ahead.
template <class T>
struct finisher {
  static constexpr int step_rows = 4 * finishing_warps, steps = (group_rows + step_rows - 1) / step_rows;
  using vector = pack<T, 8>;
  const wide_problem<T>& p;

  __device__ static int own_row(int step) { return step * step_rows + threadIdx.x % group_threads / 8; }
  __device__ static int own_column() { return threadIdx.x % 8 * 8; }
  __device__ bool has(int row, int column, int step) const {
    return own_row(step) < group_rows && row + own_row(step) < p.rows && column < p.out_features;
  }

  __device__ __forceinline__ void load_bias(int column, float (&to)[8]) const {
    if (p.bias && column < p.out_features) load<8>(p.bias + column, to);
  }
  __device__ __forceinline__ void load_residual(int row, int column, uint4 (&to)[steps]) const {
#pragma unroll
    for (int s = 0; s < steps; ++s)
      if (has(row, column, s)) to[s] = *reinterpret_cast<const uint4*>(p.residual.at(row + own_row(s), column));
  }
  __device__ __forceinline__ void take(const T (&sums)[group_rows][slab], uint4 (&to)[steps]) const {
#pragma unroll
    for (int s = 0; s < steps; ++s)
      if (own_row(s) < group_rows)
        to[s] = *reinterpret_cast<const uint4*>(&sums[own_row(s)][own_column() ^ own_row(s) % 8 * 8]);
  }

  template <activation_kind kind, bool adds>
  __device__ __forceinline__ void write(int row, int column, const uint4 (&sums)[steps], const float (&bias)[8],
                                        const uint4 (&residual)[steps]) const {
#pragma unroll
    for (int s = 0; s < steps; ++s) {
      const vector &sum = reinterpret_cast<const vector&>(sums[s]),
                   &added = reinterpret_cast<const vector&>(residual[s]);
      float v[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) v[i] = widen(sum.at[i]) + bias[i];
      activate<8, T>(kind, v);
      if constexpr (adds)
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] += widen(added.at[i]);
      if (has(row, column, s)) store<8>(p.out.at(row + own_row(s), column), v);
    }
  }
};

// A finishing warp's work.
template <activation_kind kind, bool adds, class T, int N>
__device__ __forceinline__ void finish(tile_layout<T, N>& shared, const wide_problem<T>& p) {
  constexpr int panels = N / slab, steps = finisher<T>::steps;
  const block_tiles<N> tiles(p);
  const finisher<T> f{p};
  tiles.for_each([&](int row, int column, int i) {
    column += f.own_column();
    float bias[panels][8] = {};
#pragma unroll
    for (int panel = 0; panel < panels; ++panel) f.load_bias(column + panel * slab, bias[panel]);
#pragma unroll 1
    for (int group = 0; group < multiplying_groups; ++group, row += group_rows) {
      uint4 next_sums[steps], next_residual[steps], sums[steps], residual[steps];
      const auto take = [&](int panel) {
        f.take(shared.sums[panel], next_sums);
        __syncwarp();
        if (threadIdx.x % 32 == 0) arrive(shared.taken[group][panel]);
      };
      if constexpr (adds) f.load_residual(row, column, next_residual);
      await(shared.written[group], i & 1);
      take(0);
#pragma unroll 1
      for (int panel = 0; panel < panels; ++panel) {
#pragma unroll
        for (int s = 0; s < steps; ++s) {
          sums[s] = next_sums[s];
          if constexpr (adds) residual[s] = next_residual[s];
        }
        if (panel + 1 < panels) {
          if constexpr (adds) f.load_residual(row, column + (panel + 1) * slab, next_residual);
          take(panel + 1);
        }
        f.template write<kind, adds>(row, column + panel * slab, sums, bias[0], residual);
        // The next panel's to the front, since registers have no index; after all panels each is in its place again.
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const float front = bias[0][j];
#pragma unroll
          for (int q = 0; q + 1 < panels; ++q) bias[q][j] = bias[q + 1][j];
          bias[panels - 1][j] = front;
        }
      }
    }
  });
}

template <bool adds, class T, int N>
__device__ __forceinline__ void finish_any(tile_layout<T, N>& shared, const wide_problem<T>& p) {
  switch (p.activation) {
    case activation_kind::none:
      return finish<activation_kind::none, adds>(shared, p);
    case activation_kind::relu:
      return finish<activation_kind::relu, adds>(shared, p);
    case activation_kind::gelu:
      return finish<activation_kind::gelu, adds>(shared, p);
    case activation_kind::gelu_tanh:
      return finish<activation_kind::gelu_tanh, adds>(shared, p);
    case activation_kind::silu:
      return finish<activation_kind::silu, adds>(shared, p);
    case activation_kind::tanh:
      return finish<activation_kind::tanh, adds>(shared, p);
  }
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

int64_t clusters_of(const linear_args& a, int n) {
  return ceil_div(a.x.dim(0), cluster_blocks * tile_rows) * ceil_div(a.weight->out_features, n);
}

int64_t most_clusters() { return device_attribute(cudaDevAttrMultiProcessorCount) / cluster_blocks; }

template <class T, int N>
void launch(exec& ex, const linear_args& a) {
  const cuda_weight& weight = on_gpu(*a.weight);
  const int64_t rows = a.x.dim(0), in_features = weight.in_features, out_features = weight.out_features;
  const auto map = [&](const void* data, int64_t height, int64_t stride, int box_rows) {
    return map_of({.data = data,
                   .type = weight.type,
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
  const int64_t blocks = std::min(clusters_of(a, N), most_clusters()) * cluster_blocks;
  launch_kernel(ex, "linear", {grid_size(blocks, "linear"), block_threads, sizeof(tile_layout<T, N>), cluster_blocks},
                multiply_and_finish<T, N>, p);
}

// How long a product takes, in columns of 256 rows that a cluster computes: each of its tiles takes its columns and
// what some 32 more would.
struct tiling {
  int columns;
  int64_t cost;
};

tiling best_tiling(const linear_args& a) {
  tiling best{};
  for (int n : {256, 192, 128}) {
    const int64_t cost = ceil_div(clusters_of(a, n), most_clusters()) * (n + 32);
    if (!best.columns || cost < best.cost) best = {n, cost};
  }
  return best;
}

// Against cuBLASLt and a pass over what it wrote: the pass takes the time of the products of some 400 input features,
// and cuBLASLt, which cuts small products in more ways, some 15 % more than if it used the whole GPU all the time.
bool gains(const linear_args& a) {
  const double whole = static_cast<double>(a.x.dim(0)) / (cluster_blocks * tile_rows) *
                       static_cast<double>(a.weight->out_features) / static_cast<double>(most_clusters());
  return static_cast<double>(best_tiling(a).cost) <= whole * (1.15 + 400. / static_cast<double>(a.weight->in_features));
}

}  // namespace

// The kernel computes nothing unless it was compiled for compute capability 9.0 and its like only.
bool wide_product_takes(const linear_args& a) {
#ifdef FT_CUDA_SM_90A
  return device_generation() == 9 && a.x.type != dtype::f32 && a.out.type == a.x.type &&
         in_vectors({&a.x, &a.out, &a.residual}) && in_vectors(a.bias) && gains(a);
#else
  return false;
#endif
}

void multiply_wide(exec& ex, const linear_args& a) {
  const auto multiply = [&](auto element) {
    using T = decltype(element);
    switch (best_tiling(a).columns) {
      case 256:
        return launch<T, 256>(ex, a);
      case 192:
        return launch<T, 192>(ex, a);
      default:
        return launch<T, 128>(ex, a);
    }
  };
  if (a.x.type == dtype::f16) return multiply(__half{});
  multiply(__nv_bfloat16{});
}

}  // namespace ft::cuda
