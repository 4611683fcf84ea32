// Prompt attention on tensor cores, in the manner of FlashAttention-2 (arXiv:2307.08691), for 16-bit queries and keys
// of one type.
//
// A block has 64 queries of one head, 16 a warp, and goes through the keys that any of them sees, a tile at a time. The
// next tile of keys and values is copied to shared memory while the tensor cores work on this one. Scores stay in
// registers: a warp's accumulators of query · key become, rounded to 16 bits, the left matrix of the product with the
// values. Heads are padded with zeros to D elements, a multiple of 16; rows of shared memory are 16 bytes longer, so
// that the eight rows of an 8 x 8 matrix lie in different banks.
#include "backends/cuda/attention/problem.h"
#include "backends/cuda/attention/tensor_core.h"
#include "backends/cuda/launch.h"

namespace ft::cuda {
namespace {

constexpr int queries_a_tile = 64, threads = 128;

template <class T, int D>
struct tile_layout {
  static constexpr int keys_a_tile = D > 128 ? 32 : 64, stride = D + 8;
  static constexpr int distances = queries_a_tile + keys_a_tile - 1;  // of a tile's keys from its queries
  alignas(16) T queries[queries_a_tile * stride];
  T keys[2][keys_a_tile * stride];
  T values[2][keys_a_tile * stride];
  float bias[distances];
};

// Copies row `row` of a tile, one head's vector, the part that 8 neighbouring lanes have of it; zeros where there is no
// such row.
template <class T, int D>
__device__ void copy_head(T* to, const T* from, int head_dim, bool inside, bool vectors) {
  const int lane = threadIdx.x % 8;
  if (vectors) {
    for (int c = lane * 8; c < D; c += 64) copy_async(to + c, from + (c < head_dim ? c : 0), inside && c < head_dim);
  } else {
    for (int c = lane; c < D; c += 8) to[c] = inside && c < head_dim ? from[c] : narrow<T>(0);
  }
}

template <class T, int D, bool paged>
__device__ void copy_keys(tile_layout<T, D>& shared, int stage, const attention_problem& p, const row_keys<paged>& keys,
                          int first) {
  using tiles = tile_layout<T, D>;
  const T *key_data = static_cast<const T*>(p.keys), *value_data = static_cast<const T*>(p.values);
  for (int j = threadIdx.x / 8; j < tiles::keys_a_tile; j += threads / 8) {
    const bool inside = first + j < keys.count;
    int64_t key = 0, value = 0;
    if (inside) keys.locate(p, first + j, key, value);
    copy_head<T, D>(&shared.keys[stage][j * tiles::stride], key_data + key, p.head_dim, inside, p.vectors);
    copy_head<T, D>(&shared.values[stage][j * tiles::stride], value_data + value, p.head_dim, inside, p.vectors);
  }
}

// What a warp knows of its 16 queries: each lane of two of them, rows lane / 4 and lane / 4 + 8.
template <int D>
struct warp_state {
  float acc[D / 8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
};

// scores[n] += the warp's queries · keys 8 n .. 8 n + 7 of the tile.
template <class T, int D, int N>
__device__ void multiply_keys(float (&scores)[N][4], const T* queries, const T* keys) {
  constexpr int stride = tile_layout<T, D>::stride;
  const int lane = threadIdx.x % 32;
  const T* query_row = queries + lane % 16 * stride + lane / 16 * 8;
  const T* key_row = keys + (lane / 16 * 8 + lane % 8) * stride + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    uint32_t a[4];
    load_matrices(a, query_row + k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      uint32_t b[4];
      load_matrices(b, key_row + n * 8 * stride + k);
      multiply_add<T>(scores[n], a, b[0], b[1]);
      multiply_add<T>(scores[n + 1], a, b[2], b[3]);
    }
  }
}

// acc += weights · values, over the tile's keys.
template <class T, int D, int N>
__device__ void multiply_values(float (&acc)[D / 8][4], const float (&weights)[N][4], const T* values) {
  constexpr int stride = tile_layout<T, D>::stride;
  const int lane = threadIdx.x % 32;
  const T* value_row = values + lane % 16 * stride + lane / 16 * 8;
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    const uint32_t a[4] = {pack_pair<T>(weights[n][0], weights[n][1]), pack_pair<T>(weights[n][2], weights[n][3]),
                           pack_pair<T>(weights[n + 1][0], weights[n + 1][1]),
                           pack_pair<T>(weights[n + 1][2], weights[n + 1][3])};
#pragma unroll
    for (int d = 0; d < D / 8; d += 2) {
      uint32_t b[4];
      load_transposed(b, value_row + n * 8 * stride + d * 8);
      multiply_add<T>(acc[d], a, b[0], b[1]);
      multiply_add<T>(acc[d + 1], a, b[2], b[3]);
    }
  }
}

// Turns dot products into scores: scale, softcap, bias, and -infinity where a query does not see a key. `first` is the
// tile's first key, `query` the warp's first query in the tile and `position` that query's position.
template <bool paged, int N>
__device__ void finish_scores(float (&scores)[N][4], const attention_problem& p, const row_keys<paged>& keys,
                              const float* bias, int first, int query, int position) {
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) scores[n][e] = score_of(p, scores[n][e]);
  if (has_bias(p)) {
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        scores[n][e] += bias[n * 8 + pair + e % 2 - (query + row + e / 2 * 8) + queries_a_tile - 1];
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

// The online softmax: scores become weights relative to the largest score so far, and what was summed shrinks to it.
template <int D, int N>
__device__ void take_softmax(warp_state<D>& state, float (&scores)[N][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = state.largest[r];
#pragma unroll
    for (int n = 0; n < N; ++n) largest = fmaxf(largest, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    const float base = largest == -INFINITY ? 0 : largest;  // nothing seen yet
    const float shrink = exp2_of(state.largest[r] - base);
    state.largest[r] = largest;
    float sum = 0;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 2 * r; e < 2 * r + 2; ++e) {
        scores[n][e] = exp2_of(scores[n][e] - base);
        sum += scores[n][e];
      }
    state.sum[r] = state.sum[r] * shrink + sum;
#pragma unroll
    for (int d = 0; d < D / 8; ++d) {
      state.acc[d][2 * r] *= shrink;
      state.acc[d][2 * r + 1] *= shrink;
    }
  }
}

// Divides by the sums and writes the warp's queries, by way of its part of shared.queries, which it alone has read.
template <class T, int D>
__device__ void write_results(const warp_state<D>& state, T* staging, const attention_problem& p,
                              const query_tile& tile, int head) {
  constexpr int stride = tile_layout<T, D>::stride;
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2, warp = threadIdx.x / 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float share = 1 / sum;
#pragma unroll
    for (int d = 0; d < D / 8; ++d)
      *reinterpret_cast<uint32_t*>(&staging[(row + 8 * r) * stride + d * 8 + pair]) =
          pack_pair<T>(state.acc[d][2 * r] * share, state.acc[d][2 * r + 1] * share);
  }
  __syncwarp();
  for (int q = lane / 8; q < 16; q += 4) {
    const int query = tile.first + warp * 16 + q;
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

template <class T, int D, bool paged>
__global__ void __launch_bounds__(threads) attend_prompts(const attention_problem p) {
#if __CUDA_ARCH__ >= 800
  using tiles = tile_layout<T, D>;
  constexpr int keys_a_tile = tiles::keys_a_tile, N = keys_a_tile / 8;
  extern __shared__ uint4 shared_vectors[];
  auto& shared = *reinterpret_cast<tiles*>(shared_vectors);
  const query_tile tile(p, queries_a_tile);
  if (tile.empty(p)) return;
  const int head = blockIdx.y, warp = threadIdx.x / 32;
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
  T* own_queries = &shared.queries[warp * 16 * tiles::stride];
  warp_state<D> state;

  copy_keys<T, D, paged>(shared, 0, p, keys, key_begin);
  commit_copies();
  int stage = 0;
  for (int first = key_begin; first < key_end; first += keys_a_tile, stage ^= 1) {
    if (first + keys_a_tile < key_end) copy_keys<T, D, paged>(shared, stage ^ 1, p, keys, first + keys_a_tile);
    commit_copies();
    if (has_bias(p))
      for (int i = threadIdx.x; i < tiles::distances; i += threads)
        shared.bias[i] = bias_of(p, head, first - position + i - (queries_a_tile - 1));
    await_copies<1>();
    __syncthreads();
    float scores[N][4] = {};
    multiply_keys<T, D>(scores, own_queries, shared.keys[stage]);
    finish_scores<paged>(scores, p, keys, shared.bias, first, warp * 16, position + warp * 16);
    take_softmax(state, scores);
    multiply_values<T, D>(state.acc, scores, shared.values[stage]);
    __syncthreads();
  }
  write_results<T, D>(state, own_queries, p, tile, head);
#endif
}

template <class T, int D, bool paged>
void launch(exec& ex, const attention_problem& p) {
  const dim3 grid(grid_size(p.tokens / queries_a_tile + p.rows, "attention"), p.heads);
  constexpr size_t bytes = sizeof(tile_layout<T, D>);
  allow_shared_memory(attend_prompts<T, D, paged>, bytes, "attention");
  attend_prompts<T, D, paged><<<grid, threads, bytes, stream_of(ex)>>>(p);
  check_launch("attention");
}

template <class T, int D>
void launch(exec& ex, const attention_problem& p) {
  if (p.paged)
    launch<T, D, true>(ex, p);
  else
    launch<T, D, false>(ex, p);
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

void prompt_attention(exec& ex, const attention_problem& p) {
  if (p.type == dtype::f16)
    launch<__half>(ex, p);
  else
    launch<__nv_bfloat16>(ex, p);
}

}  // namespace ft::cuda
