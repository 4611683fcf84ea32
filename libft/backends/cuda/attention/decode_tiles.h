// What the kernels of decode attention over tiles share (decode_tiles.cu, decode_cascade.cu): rings of keys and values
// of sixteen tokens, and their products with up to eight queries on tensor cores.
//
// Template parameters: T the elements' type, D the head padded with zeros to a multiple of 64, G the queries, S how
// many times 16 keys a warp has on their way.
#pragma once

#include "backends/cuda/attention/decode.h"
#include "backends/cuda/attention/head_maps.h"
#include "backends/cuda/kernel/hopper.h"

namespace ft::cuda {

inline constexpr int keys_a_tile = page_box_tokens, panel = panel_columns_16;

template <class T, int D>
using key_tile = T[D / panel][keys_a_tile][panel];

template <class T, int D, int G, int S>
struct split_memory {
  struct tile_ring {
    key_tile<T, D> keys[S], values[S];
  };
  union {
    tile_ring rings[decode_warps];
    warp_results<D, G> warps;  // then
  };
  block_results<D, G> own;
  uint64_t keys_full[decode_warps][S], values_full[decode_warps][S];
};

struct page_maps {
  CUtensorMap keys, values;
};

#if __CUDA_ARCH__ >= 900

// A kernel's first act: a warp's barriers are made before the next kernel may start.
template <int S>
__device__ __forceinline__ void open_rings(uint64_t* keys_full, uint64_t* values_full) {
  if (threadIdx.x % 32 == 0) {
    for (int s = 0; s < S; ++s) {
      init_barrier(keys_full[s], 1);
      init_barrier(values_full[s], 1);
    }
    publish_barriers();
  }
  admit_next_kernel();
  __syncwarp();
}

// By one lane: a page's sixteen keys or values from its token `at` on.
template <class T, int D>
__device__ __forceinline__ void tma_load_tile(key_tile<T, D>& to, uint64_t& full, const CUtensorMap& map, int at,
                                              int page_head) {
  arrive_expecting(full, sizeof(to));
  for (int c = 0; c < D / panel; ++c) tma_load(to[c], map, c * panel, at, page_head, full);
}

// Where the 16-byte piece that begins at `column` of a tile's row lies.
template <class Tile>
__device__ auto* piece(Tile& tile, int row, int column) {
  return &tile[column / panel][row][(column % panel / 8 ^ row % 8) * 8];
}

template <class T>
__device__ const T* query_of(const attention_problem& p, int token, int head) {
  return static_cast<const T*>(p.query) + token * p.query_stride + head * p.query_head_stride;
}

// The columns [D, 8] of a product: a block's `count` queries, the g-th at query(g), and zeros beyond them.
template <class T, int D, class Query>
__device__ void load_queries(uint32_t (&b)[D / 16][2], int head_dim, int count, Query query) {
  const int lane = threadIdx.x % 32, g = lane / 4, pair = lane % 4 * 2;
  const T* from = query(min(g, count - 1)) + pair;
#pragma unroll
  for (int i = 0; i < D / 8; ++i) {
    const bool inside = g < count && i * 8 < head_dim;
    b[i / 2][i % 2] = inside ? *reinterpret_cast<const uint32_t*>(from + i * 8) : 0;
  }
}

// dots [16 keys, 8 queries]
template <class T, int D>
__device__ void multiply_keys(float (&dots)[4], const key_tile<T, D>& keys, const uint32_t (&queries)[D / 16][2]) {
  const int lane = threadIdx.x % 32;
  float odd[4] = {};  // two chains of sums, so that one is added to while the other is on its way
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t a[4];
    load_matrices(a, piece(keys, lane % 16, k * 16 + lane / 16 * 8));
    multiply_add<T>(k % 2 ? odd : dots, a, queries[k][0], queries[k][1]);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) dots[i] += odd[i];
}

// Transposes an 8 x 8 matrix of 16-bit elements.
__device__ inline uint32_t transposed(uint32_t m) {
  uint32_t t;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(m));
  return t;
}

// acc [D, 8 queries] += values · weights
template <class T, int D>
__device__ void multiply_values(float (&acc)[D / 16][4], const key_tile<T, D>& values, const float (&weights)[4]) {
  const int lane = threadIdx.x % 32;
  const uint32_t first_half = transposed(pack_pair<T>(weights[0], weights[1])),
                 second_half = transposed(pack_pair<T>(weights[2], weights[3]));
#pragma unroll
  for (int d = 0; d < D / 16; ++d) {
    uint32_t a[4];
    load_transposed(a, piece(values, lane / 16 * 8 + lane % 8, d * 16 + lane / 8 % 2 * 8));
    multiply_add<T>(acc[d], a, first_half, second_half);
  }
}

// Zeros for a tile's values from the count-th on.
template <class T, int D>
__device__ void clear_values(key_tile<T, D>& values, int count) {
  const int lane = threadIdx.x % 32;
  for (int i = lane; i < D / 8 * (keys_a_tile - count); i += 32)
    *reinterpret_cast<uint4*>(&values[i % (D / 8) / 8][count + i / (D / 8)][i % 8 * 8]) = uint4{};
  __syncwarp();
}

// A lane's part of the online softmax of 8 queries: those of two columns, over two keys of every tile.
struct lane_softmax {
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {}, shrink[2];

  // Scores become weights relative to the largest so far. MayBeNone: there may be none but -infinity yet.
  template <bool MayBeNone = false>
  __device__ void take(float (&scores)[4]) {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      float next = fmaxf(scores[q], scores[q + 2]);
#pragma unroll
      for (int d = 4; d < 32; d *= 2) next = fmaxf(next, __shfl_xor_sync(0xffffffffu, next, d));
      next = fmaxf(next, largest[q]);
      const float base = MayBeNone && next == -INFINITY ? 0 : next;  // all weights are zero then
      shrink[q] = exp2_of(largest[q] - base);
      largest[q] = next;
      scores[q] = exp2_of(scores[q] - base);
      scores[q + 2] = exp2_of(scores[q + 2] - base);
      sum[q] = sum[q] * shrink[q] + scores[q] + scores[q + 2];
    }
  }
};

template <class T, int D, int G>
__device__ void store_results(warp_results<D, G>& to, const float (&acc)[D / 16][4], const lane_softmax& state) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4;
#pragma unroll
  for (int q = 0; q < 2; ++q) {
    const int g = lane % 4 * 2 + q;
    float sum = state.sum[q];
#pragma unroll
    for (int d = 4; d < 32; d *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
    if (g >= G) continue;
#pragma unroll
    for (int d = 0; d < D / 16; ++d) {
      to.sums[warp][g][d * 16 + row] = acc[d][q];
      to.sums[warp][g][d * 16 + row + 8] = acc[d][q + 2];
    }
    if (row == 0) {
      to.largest[warp][g] = state.largest[q];
      to.sum[warp][g] = sum;
    }
  }
}

// acc shrinks to the softmax's new largest scores, and values · weights are added.
template <class T, int D>
__device__ __forceinline__ void add_values(float (&acc)[D / 16][4], const lane_softmax& state,
                                           const key_tile<T, D>& values, const float (&weights)[4]) {
#pragma unroll
  for (int d = 0; d < D / 16; ++d)
#pragma unroll
    for (int e = 0; e < 4; ++e) acc[d][e] *= state.shrink[e % 2];
  multiply_values<T, D>(acc, values, weights);
}

// A kernel's last act. All threads of the block call; its tiles are read no more.
template <class T, int D, int G, int S, class Queries>
__device__ __forceinline__ void finish_tiles(split_memory<T, D, G, S>& shared, const float (&acc)[D / 16][4],
                                             const lane_softmax& state, const attention_problem& p,
                                             const split_results& to, const Queries& queries, int count) {
  __syncthreads();
  store_results<T, D, G>(shared.warps, acc, state);
  __syncthreads();
  finish_split(shared.warps, shared.own, p, to, queries, count);
}

#endif

}  // namespace ft::cuda
