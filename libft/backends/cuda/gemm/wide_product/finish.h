// The second half of wide_product.cu: the warps that take rounded sums from shared memory, add bias, activation and
// residual in float32, and write the results.
#pragma once

#include "backends/cuda/gemm/wide_product/tiles.h"
#include "backends/cuda/kernel/activate.h"

namespace ft::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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
      mbarrier_wait(shared.written[group], i & 1);
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

}  // namespace ft::cuda
