// Prefill attention on tensor cores, in the manner of FlashAttention-2 (arXiv:2307.08691), for 16-bit queries and keys
// of one type.
//
// A block has 64 or 128 queries of one head, 16 or 32 a warp, and goes through the keys that any of them sees, a tile
// at a time. The next tile of keys and values is copied to shared memory while the tensor cores work on this one.
// Scores stay in registers: a warp's accumulators of query · key become, rounded to 16 bits, the left matrix of the
// product with the values. What a warp reads of keys and values serves all its queries, so that 32 halve the traffic of
// shared memory, its bound; 16 fill the chip where there are few. A query's arithmetic is the same in both. Heads are
// padded with zeros to D elements, a multiple of 16; rows of shared memory are 16 bytes longer, so that the eight rows
// of an 8 x 8 matrix lie in different banks.
//
// Template parameters: T the elements' type, D the padded head, M how many times 16 queries a warp has, N how many
// times 8 keys a tile has.
#include "backends/cuda/attention/problem.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/tensor_core.h"

namespace ft::cuda {
namespace {

constexpr int warps = 4, threads = 32 * warps;

template <class T, int D, int M>
struct tile_layout {
  static constexpr int queries_a_tile = 16 * M * warps, keys_a_tile = D > 128 ? 32 : 64, stride = D + 8;
  static constexpr int distances = queries_a_tile + keys_a_tile - 1;  // of a tile's keys from its queries
  alignas(16) T queries[queries_a_tile * stride];
  T keys[2][keys_a_tile * stride];
  T values[2][keys_a_tile * stride];
  float bias[distances];
};

// Copies one head's vector to a row of a tile, by 8 neighbouring lanes; zeros where `inside` says that there is none.
template <class T, int D>
__device__ void copy_head(T* to, const T* from, int head_dim, bool inside, bool vectors) {
  const int lane = threadIdx.x % 8;
  if (vectors) {
    for (int c = lane * 8; c < D; c += 64) copy_async(to + c, from + (c < head_dim ? c : 0), inside && c < head_dim);
  } else {
    for (int c = lane; c < D; c += 8) to[c] = inside && c < head_dim ? from[c] : narrow<T>(0);
  }
}

template <class T, int D, int M, bool paged>
__device__ void copy_keys(tile_layout<T, D, M>& shared, int stage, const attention_problem& p,
                          const row_keys<paged>& keys, int first) {
  using tiles = tile_layout<T, D, M>;
  const T *key_data = static_cast<const T*>(p.keys), *value_data = static_cast<const T*>(p.values);
  for (int j = threadIdx.x / 8; j < tiles::keys_a_tile; j += threads / 8) {
    const bool inside = first + j < keys.count;
    int64_t key = 0, value = 0;
    if (inside) keys.locate(p, first + j, key, value);
    copy_head<T, D>(&shared.keys[stage][j * tiles::stride], key_data + key, p.head_dim, inside, p.vectors);
    copy_head<T, D>(&shared.values[stage][j * tiles::stride], value_data + value, p.head_dim, inside, p.vectors);
  }
}

// What a warp knows of its queries: each lane of two in 16, rows lane / 4 and lane / 4 + 8.
template <int D, int M>
struct warp_state {
  float acc[M][D / 8][4] = {};
  float largest[M][2], sum[M][2] = {};
};

// scores[m][n] += queries 16 m .. of the warp · keys 8 n .. of the tile.
template <class T, int D, int M, int N>
__device__ void multiply_keys(float (&scores)[M][N][4], const T* queries, const T* keys) {
  constexpr int stride = tile_layout<T, D, M>::stride;
  const int lane = threadIdx.x % 32;
  const T* query_row = queries + lane % 16 * stride + lane / 16 * 8;
  const T* key_row = keys + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    uint32_t a[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m) load_matrices(a[m], query_row + m * 16 * stride + k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t b[4];
      load_matrices(b, key_row + n * 8 * stride + k);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        multiply_add<T>(scores[m][n], a[m], b[0], b[1]);
        multiply_add<T>(scores[m][n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// acc += weights · values, over the tile's keys.
template <class T, int D, int M, int N>
__device__ void multiply_values(float (&acc)[M][D / 8][4], const float (&weights)[M][N][4], const T* values) {
  constexpr int stride = tile_layout<T, D, M>::stride;
  const int lane = threadIdx.x % 32;
  const T* value_row = values + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    uint32_t a[M][4];
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float (&w)[4] = weights[m][n + i / 2];
        a[m][i] = pack_pair<T>(w[i % 2 * 2], w[i % 2 * 2 + 1]);
      }
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      uint32_t b[4];
      load_transposed(b, value_row + n * 8 * stride + d * 8);
#pragma unroll
      for (int m = 0; m < M; ++m) {
        multiply_add<T>(acc[m][d], a[m], b[0], b[1]);
        multiply_add<T>(acc[m][d + 1], a[m], b[2], b[3]);
      }
    }
  }
}

// Turns the dot products of 16 queries into scores: scale, softcap, bias, and -infinity where a query does not see a
// key. `first` is the tile's first key, `position` the first query's position. `bias` is that query's for the tile's
// first key.
template <bool paged, int N>
__device__ void finish_scores(float (&scores)[N][4], const attention_problem& p, const row_keys<paged>& keys,
                              const float* bias, int first, int position) {
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) scores[n][e] = score_of(p, scores[n][e]);
  if (has_bias(p)) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[n][e] += bias[n * 8 + pair + e % 2 - (row + e / 2 * 8)];
  }
  const bool all_seen = first + N * 8 <= keys.last_seen(p, position) && first >= keys.first_seen(p, position + 15);
  if (all_seen) return;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int j = first + n * 8 + pair + e % 2, at = position + row + e / 2 * 8;
      if (j >= keys.last_seen(p, at) || j < keys.first_seen(p, at)) scores[n][e] = -INFINITY;
    }
}

// The online softmax of 16 queries: scores become weights relative to the largest score so far, and what was summed
// shrinks to it.
template <int D, int M, int N>
__device__ void take_softmax(warp_state<D, M>& state, int m, float (&scores)[N][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = state.largest[m][r];
#pragma unroll
    for (int n = 0; n < N; ++n) largest = fmaxf(largest, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    const float base = largest == -INFINITY ? 0 : largest;  // nothing seen yet
    const float shrink = exp2_of(state.largest[m][r] - base);
    state.largest[m][r] = largest;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        scores[n][e] = exp2_of(scores[n][e] - base);
        sum += scores[n][e];
      }
    state.sum[m][r] = state.sum[m][r] * shrink + sum;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      state.acc[m][d][2 * r] *= shrink;
      state.acc[m][d][2 * r + 1] *= shrink;
    }
  }
}

// Divides by the sums and writes the warp's queries, by way of its part of shared.queries, which it alone has read.
template <class T, int D, int M>
__device__ void write_results(const warp_state<D, M>& state, T* staging, const attention_problem& p,
                              const query_tile& tile, int head) {
  constexpr int stride = tile_layout<T, D, M>::stride;
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2, warp = threadIdx.x / 32;
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = state.sum[m][r];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float share = 1 / sum;
#pragma unroll
      for (int d = 0; d < D / 8; ++d)
        *reinterpret_cast<uint32_t*>(&staging[(16 * m + row + 8 * r) * stride + d * 8 + pair]) =
            pack_pair<T>(state.acc[m][d][2 * r] * share, state.acc[m][d][2 * r + 1] * share);
    }
  __syncwarp();
  for (int q = lane / 8; q < 16 * M; q += 4) {
    const int query = tile.first + warp * 16 * M + q;
    if (query >= tile.queries) break;
    T* to = static_cast<T*>(p.out) + (static_cast<int64_t>(tile.begin + query) * p.heads + head) * p.head_dim;
    const T* from = staging + q * stride;
    if (p.vectors) {
      for (int c = lane % 8 * 8; c < p.head_dim; c += 64)
        *reinterpret_cast<uint4*>(to + c) = *reinterpret_cast<const uint4*>(from + c);
    } else {
      for (int c = lane % 8; c < p.head_dim; c += 8) to[c] = from[c];
    }
  }
}

template <class T, int D, int M, bool paged>
__global__ void __launch_bounds__(threads) attend_prefill(const attention_problem p) {
#if __CUDA_ARCH__ >= 800
  using tiles = tile_layout<T, D, M>;
  constexpr int queries_a_tile = tiles::queries_a_tile, keys_a_tile = tiles::keys_a_tile, N = keys_a_tile / 8;
  extern __shared__ uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<tiles*>(shared_vectors);
  await_previous_kernel();
  const query_tile tile(p, queries_a_tile, gridDim.x - 1 - blockIdx.x);
  if (tile.empty(p)) return;
  const int head = blockIdx.y, own = threadIdx.x / 32 * 16 * M;  // the warp's first query in the tile
  const row_keys<paged> keys(p, tile.row, tile.queries, head / (p.heads / p.kv_heads));

  const T* query_data = static_cast<const T*>(p.query) + tile.begin * p.query_stride + head * p.query_head_stride;
  for (int q = threadIdx.x / 8; q < queries_a_tile; q += threads / 8) {
    const bool inside = tile.first + q < tile.queries;
    copy_head<T, D>(&shared.queries[q * tiles::stride], query_data + (inside ? tile.first + q : 0) * p.query_stride,
                    p.head_dim, inside, p.vectors);
  }

  const int position = keys.first_position + tile.first;  // of the tile's first query
  const int key_end = keys.last_seen(p, keys.first_position + min(tile.first + queries_a_tile, tile.queries) - 1);
  const int key_begin = keys.first_seen(p, position) / keys_a_tile * keys_a_tile;
  T* own_queries = &shared.queries[own * tiles::stride];
  warp_state<D, M> state;
#pragma unroll
  for (int m = 0; m < M; ++m) state.largest[m][0] = state.largest[m][1] = -INFINITY;

  copy_keys(shared, 0, p, keys, key_begin);
  commit_copies();
  int stage = 0;
  for (int first = key_begin; first < key_end; first += keys_a_tile, stage ^= 1) {
    if (first + keys_a_tile < key_end) copy_keys(shared, stage ^ 1, p, keys, first + keys_a_tile);
    commit_copies();
    if (has_bias(p))  // the last query's for the first key comes first
      for (int i = threadIdx.x; i < tiles::distances; i += threads)
        shared.bias[i] = bias_of(p, head, first - position + i - (queries_a_tile - 1));
    await_copies<1>();
    __syncthreads();
    float scores[M][N][4] = {};
    multiply_keys<T, D>(scores, own_queries, shared.keys[stage]);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      const int query = own + 16 * m;
      finish_scores<paged>(scores[m], p, keys, &shared.bias[queries_a_tile - 1 - query], first, position + query);
      take_softmax(state, m, scores[m]);
    }
    multiply_values<T, D>(state.acc, scores, shared.values[stage]);
    __syncthreads();
  }
  write_results<T, D>(state, own_queries, p, tile, head);
#endif
}

template <class T, int D, int M, bool paged>
void launch(exec& ex, const attention_problem& p) {
  using tiles = tile_layout<T, D, M>;
  const dim3 grid(grid_size(p.tokens / tiles::queries_a_tile + p.rows, "attention"), p.heads);
  launch_kernel(ex, "attention", {grid, threads, sizeof(tiles)}, attend_prefill<T, D, M, paged>, p);
}

template <class T, int D, int M>
void launch(exec& ex, const attention_problem& p) {
  if (p.paged)
    launch<T, D, M, true>(ex, p);
  else
    launch<T, D, M, false>(ex, p);
}

// Large tiles where rows fill them and there are enough for every multiprocessor to have two.
template <class T, int D>
void launch(exec& ex, const attention_problem& p) {
  if constexpr (D <= 128) {
    const int64_t large = tile_layout<T, D, 2>::queries_a_tile;
    const int processors = device_attribute(cudaDevAttrMultiProcessorCount);
    if (p.tokens / p.rows >= large * 3 / 4 && p.tokens / large * p.heads >= 2 * processors)
      return launch<T, D, 2>(ex, p);
  }
  launch<T, D, 1>(ex, p);
}

template <class T>
void launch(exec& ex, const attention_problem& p) {
  if (p.head_dim <= 32) return launch<T, 32>(ex, p);
  if (p.head_dim <= 64) return launch<T, 64>(ex, p);
  if (p.head_dim <= 80) return launch<T, 80>(ex, p);
  if (p.head_dim <= 96) return launch<T, 96>(ex, p);
  if (p.head_dim <= 128) return launch<T, 128>(ex, p);
  if (p.head_dim <= 192) return launch<T, 192>(ex, p);
  launch<T, 256>(ex, p);
}

}  // namespace

void prefill_attention(exec& ex, const attention_problem& p) {
  if (p.type == dtype::f16)
    launch<__half>(ex, p);
  else
    launch<__nv_bfloat16>(ex, p);
}

}  // namespace ft::cuda
