// Prefill attention for compute capability 9.0, after FlashAttention-3 (arXiv:2407.08608): as prefill.cu, but products
// are those of whole warpgroups, which read keys and values from shared memory, and one warp has tiles copied there.
//
// A block has W warpgroups of 64 queries of one head, and one more, a warp of which keeps a ring of two tiles of keys
// and values full; its registers go to the others. A warpgroup has the scores of the next tile computed while the
// values of this one are multiplied, and takes their softmax meanwhile; the warpgroups drift apart, so that one's
// softmax also covers another's products. A query's arithmetic is the same for every W. Keys that a page or the next
// row has behind the last are masked, and their values made zeros: they may be anything.
//
// Template parameters: T the elements' type, D the head padded with zeros to a multiple of 64, N the keys of a tile,
// W the warpgroups, B the blocks that share a multiprocessor.
#include "backends/cuda/attention/head_maps.h"
#include "backends/cuda/kernel/hopper.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int group_threads = 128, group_queries = 64, stages = 2, panel = panel_columns_16;

template <class T, int D, int N, int W>
struct tile_layout {
  static constexpr int panels = D / panel;
  T queries[W][panels][group_queries][panel];
  T keys[stages][panels][N][panel];
  T values[stages][panels][N][panel];
  float bias[W][group_queries + N];
  uint64_t queries_full, keys_full[stages], values_full[stages], keys_free[stages], values_free[stages];
};

struct tensor_maps {
  CUtensorMap queries, keys, values;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// The tiles of keys that a block goes through.
struct tile_range {
  int begin, count;
};

// One warp's work: each lane copies a box of a panel's rows.
template <class T, int D, int N, int W>
__device__ void copy_tiles(tile_layout<T, D, N, W>& shared, const attention_problem& p, const tensor_maps& maps,
                           const query_tile& tile, int head, const seen_keys& keys, const tile_range& range) {
  constexpr int panels = tile_layout<T, D, N, W>::panels, element = sizeof(T);
  static_assert(N / page_box_tokens * panels <= 32 && W * panels <= 32);
  const int lane = threadIdx.x % 32, part = lane % panels, box = lane / panels;
  if (lane == 0) arrive_expecting(shared.queries_full, sizeof(shared.queries));
  if (box < W)
    tma_load(shared.queries[box][part], maps.queries, part * panel, head, tile.begin + tile.first + box * group_queries,
             shared.queries_full);

  const int kv_head = head / (p.heads / p.kv_heads);
  const int32_t* table = p.page_table + tile.row * p.page_table_stride;
  const int key_begin = p.paged ? 0 : p.key_row_offsets[tile.row];
  for (int i = 0; i < range.count; ++i) {
    const int stage = i % stages, parity = i / stages % 2, first = range.begin + i * N;
    // Boxes of 16 keys from pages, as many as have keys, else one of N.
    const int boxes = p.paged ? (min(N, keys.count - first) + page_box_tokens - 1) / page_box_tokens : 1;
    const int bytes = (p.paged ? boxes * page_box_tokens : N) * D * element;
    const int at = first + box * page_box_tokens, row = box * page_box_tokens;
    int y = kv_head, z = key_begin + first;
    if (p.paged && box < boxes) {
      const int page = at / p.pages.page_tokens;
      y = at - page * p.pages.page_tokens;
      z = table[page] * p.kv_heads + kv_head;
    }
    mbarrier_wait(shared.keys_free[stage], parity ^ 1);
    if (lane == 0) arrive_expecting(shared.keys_full[stage], bytes);
    if (box < boxes) tma_load(shared.keys[stage][part][row], maps.keys, part * panel, y, z, shared.keys_full[stage]);
    mbarrier_wait(shared.values_free[stage], parity ^ 1);
    if (lane == 0) arrive_expecting(shared.values_full[stage], bytes);
    if (box < boxes)
      tma_load(shared.values[stage][part][row], maps.values, part * panel, y, z, shared.values_full[stage]);
  }
}

// What a warpgroup's threads know of their queries: two each, rows lane / 4 and lane / 4 + 8 of the warp's 16.
struct softmax_state {
  float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {}, shrink[2];
};

// scores = queries · keys, under way when it returns.
template <class T, int D, int N>
__device__ __forceinline__ void multiply_keys(float (&scores)[N / 2],
                                              const T (&queries)[D / panel][group_queries][panel],
                                              const T (&keys)[D / panel][N][panel]) {
  begin_products();
#pragma unroll
  for (int k = 0; k < D; k += 16)
    warpgroup_product<T, N>::multiply_tiles(scores, panel_rows(&queries[k / panel][0][k % panel]),
                                            panel_rows(&keys[k / panel][0][k % panel]), k > 0);
  commit_products();
}

// acc += weights · values, under way when it returns.
template <class T, int D, int N>
__device__ __forceinline__ void multiply_values(float (&acc)[D / 2], const uint32_t (&weights)[N / 16][4],
                                                const T (&values)[D / panel][N][panel]) {
  begin_products();
#pragma unroll
  for (int k = 0; k < N / 16; ++k)
    warpgroup_product<T, D>::multiply_rows(acc, weights[k],
                                           panel_columns(&values[0][k * 16][0], N * panel * sizeof(T)));
  commit_products();
}

// Softcap and bias of dot products. `bias` is that of the warp's first query for the tile's first key.
template <int N>
__device__ __forceinline__ void finish_scores(float (&scores)[N / 2], const attention_problem& p, const float* bias) {
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < N / 2; ++i) {
    scores[i] = score_of(p, scores[i]);
    if (has_bias(p)) scores[i] += bias[i / 4 * 8 + pair + i % 2 - (row + i / 2 % 2 * 8)];
  }
}

// -infinity where a query does not see a key. `first` is the tile's first key, `position` the warp's first query's.
template <int N>
__device__ __forceinline__ void mask_scores(float (&scores)[N / 2], const attention_problem& p, const seen_keys& keys,
                                            int first, int position) {
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2;
  if (first + N <= keys.last_seen(p, position) && first >= keys.first_seen(p, position + 15)) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int at = position + row + r * 8, begin = keys.first_seen(p, at) - first - pair,
              end = keys.last_seen(p, at) - first - pair;
#pragma unroll
    for (int n = 0; n < N / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e)
        if (n * 8 + e < begin || n * 8 + e >= end) scores[n * 4 + r * 2 + e] = -INFINITY;
  }
}

// The online softmax: scores, to be multiplied by `factor`, become weights relative to the largest so far.
template <int N>
__device__ __forceinline__ void take_softmax(softmax_state& state, float (&scores)[N / 2], float factor) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = state.largest[r];
#pragma unroll
    for (int i = 2 * r; i < N / 2; i += 4) largest = fmaxf(largest, fmaxf(scores[i], scores[i + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    const float base = largest == -INFINITY ? 0 : largest * factor;  // nothing seen yet
    // Exactly 1 where the largest stays: a tile that a query does not see changes nothing.
    state.shrink[r] = state.largest[r] == largest ? 1 : exp2_of((state.largest[r] - largest) * factor);
    state.largest[r] = largest;
    float sum = 0;
#pragma unroll
    for (int i = 2 * r; i < N / 2; i += 4) {
      scores[i] = exp2_of(fmaf(scores[i], factor, -base));
      scores[i + 1] = exp2_of(fmaf(scores[i + 1], factor, -base));
      sum += scores[i] + scores[i + 1];
    }
    state.sum[r] = state.sum[r] * state.shrink[r] + sum;
  }
}

template <class T, int N>
__device__ __forceinline__ void round_weights(uint32_t (&weights)[N / 16][4], const float (&scores)[N / 2]) {
#pragma unroll
  for (int i = 0; i < N / 4; ++i) weights[i / 4][i % 4] = pack_pair<T>(scores[2 * i], scores[2 * i + 1]);
}

// Zeros for the values from the count-th on, as the warpgroup sees them.
template <class T, int D, int N>
__device__ __forceinline__ void clear_values(T (&values)[D / panel][N][panel], int count, int group) {
  const int lane = threadIdx.x % 8;
  for (int i = 0; i < D / panel; ++i)
    for (int row = count + threadIdx.x % group_threads / 8; row < N; row += group_threads / 8)
      *reinterpret_cast<uint4*>(&values[i][row][lane * 8]) = uint4{};
  publish_stores();
  sync_warpgroup(group);
}

// Divides by the sums and writes the warp's queries, by way of where it had read them.
template <class T, int D>
__device__ __forceinline__ void write_results(const float (&acc)[D / 2], const softmax_state& state,
                                              T (&staging)[D / panel][group_queries][panel], const attention_problem& p,
                                              const query_tile& tile, int first, int head) {
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2, own = threadIdx.x % group_threads / 32 * 16;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = state.sum[r];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    const float share = 1 / sum;
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      *reinterpret_cast<uint32_t*>(&staging[n / 8][own + row + 8 * r][(n % 8 ^ row) * 8 + pair]) =
          pack_pair<T>(acc[n * 4 + 2 * r] * share, acc[n * 4 + 2 * r + 1] * share);
  }
  __syncwarp();
  for (int i = 0; i < D / panel; ++i) {
    const int c = i * panel + lane % 8 * 8;
    for (int q = lane / 8; q < 16; q += 4) {
      const int query = first + own + q;
      if (query >= tile.queries || c >= p.head_dim) break;
      T* to = static_cast<T*>(p.out) + (static_cast<int64_t>(tile.begin + query) * p.heads + head) * p.head_dim;
      *reinterpret_cast<uint4*>(to + c) = *reinterpret_cast<const uint4*>(&staging[i][own + q][(lane ^ q) % 8 * 8]);
    }
  }
}

// One warpgroup's work. `ahead`: it has the next tile's scores computed while it multiplies this one's values.
template <bool ahead, class T, int D, int N, int W>
__device__ __forceinline__ void attend(tile_layout<T, D, N, W>& shared, const attention_problem& p,
                                       const query_tile& tile, int head, const seen_keys& keys,
                                       const tile_range& range) {
  const int group = threadIdx.x / group_threads, first_query = tile.first + group * group_queries;
  const int position = keys.first_position + first_query;
  const int warp_position = position + threadIdx.x % group_threads / 32 * 16;
  const bool plain = !has_bias(p) && p.softcap <= 0;
  const float factor = plain ? p.scale * log2_e : 1;
  float scores[N / 2], acc[D / 2] = {};
  uint32_t weights[N / 16][4];
  softmax_state state;

  const auto look_up_bias = [&](int first) {  // of a tile, while its scores are on their way
    if (!has_bias(p)) return;
    sync_warpgroup(group);
    for (int i = threadIdx.x % group_threads; i < group_queries + N - 1; i += group_threads)
      shared.bias[group][i] = bias_of(p, head, first - position + i - (group_queries - 1));
    sync_warpgroup(group);
  };
  const auto score = [&](int first) {
    // The last query's bias for the first key comes first.
    if (!plain) finish_scores<N>(scores, p, &shared.bias[group][group_queries - 1 - (warp_position - position)]);
    mask_scores<N>(scores, p, keys, first, warp_position);
    take_softmax<N>(state, scores, factor);
  };
  const auto release = [&](uint64_t& barrier) {
    if (threadIdx.x % 32 == 0) arrive(barrier);
  };

  const auto shrink = [&] {
#pragma unroll
    for (int j = 0; j < D / 2; ++j) acc[j] *= state.shrink[j / 2 % 2];
  };

  look_up_bias(range.begin);
  mbarrier_wait(shared.queries_full, 0);
  mbarrier_wait(shared.keys_full[0], 0);
  multiply_keys<T, D, N>(scores, shared.queries[group], shared.keys[0]);
  await_products<0>();
  release(shared.keys_free[0]);
  score(range.begin);
  round_weights<T, N>(weights, scores);
  int i = 0;
  for (; i + 1 < range.count; ++i) {
    const int stage = i % stages, parity = i / stages % 2, next = (i + 1) % stages, next_parity = (i + 1) / stages % 2;
    if constexpr (ahead) {
      mbarrier_wait(shared.keys_full[next], next_parity);
      multiply_keys<T, D, N>(scores, shared.queries[group], shared.keys[next]);
      mbarrier_wait(shared.values_full[stage], parity);
      multiply_values<T, D, N>(acc, weights, shared.values[stage]);
      look_up_bias(range.begin + (i + 1) * N);
      await_products<1>();
      release(shared.keys_free[next]);
      score(range.begin + (i + 1) * N);
      await_products<0>();
      release(shared.values_free[stage]);
    } else {
      mbarrier_wait(shared.values_full[stage], parity);
      multiply_values<T, D, N>(acc, weights, shared.values[stage]);
      await_products<0>();
      release(shared.values_free[stage]);
      mbarrier_wait(shared.keys_full[next], next_parity);
      multiply_keys<T, D, N>(scores, shared.queries[group], shared.keys[next]);
      look_up_bias(range.begin + (i + 1) * N);
      await_products<0>();
      release(shared.keys_free[next]);
      score(range.begin + (i + 1) * N);
    }
    shrink();
    round_weights<T, N>(weights, scores);
  }
  const int last = i % stages, left = keys.count - (range.begin + i * N);
  mbarrier_wait(shared.values_full[last], i / stages % 2);
  if (left < N) clear_values<T, D, N>(shared.values[last], left, group);
  multiply_values<T, D, N>(acc, weights, shared.values[last]);
  await_products<0>();
  sync_warpgroup(group);  // all have read their queries
  write_results<T, D>(acc, state, shared.queries[group], p, tile, first_query, head);
}

#endif

template <class T, int D, int N, int W, int B>
__global__ void __launch_bounds__((W + 1) * group_threads, B)
    attend_prefill(const attention_problem p, const __grid_constant__ tensor_maps maps) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using tiles = tile_layout<T, D, N, W>;
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<tiles*>(shared_bytes);
  if (threadIdx.x == 0) {
    init_barrier(shared.queries_full, 1);
    for (int s = 0; s < stages; ++s) {
      init_barrier(shared.keys_full[s], 1);
      init_barrier(shared.values_full[s], 1);
      init_barrier(shared.keys_free[s], W * 4);
      init_barrier(shared.values_free[s], W * 4);
    }
    publish_barriers();
  }
  // Tiles of one number for all heads come together: the longest of all first, and heads that share keys side by side.
  const int head = blockIdx.x % p.heads;
  const query_tile tile(p, W * group_queries, (gridDim.x - 1 - blockIdx.x) / p.heads);
  const int kv_head = head / (p.heads / p.kv_heads);
  const seen_keys keys = p.paged ? static_cast<seen_keys>(row_keys<true>(p, tile.row, tile.queries, kv_head))
                                 : static_cast<seen_keys>(row_keys<false>(p, tile.row, tile.queries, kv_head));
  const int first_position = keys.first_position + tile.first;
  const int end = keys.last_seen(p, keys.first_position + min(tile.first + W * group_queries, tile.queries) - 1);
  const int begin = keys.first_seen(p, first_position) / N * N;
  const tile_range range{begin, (end - begin + N - 1) / N};
  await_previous_kernel();  // the numbers so far came before the step's first kernel
  if (tile.empty(p)) return;
  __syncthreads();
  if (threadIdx.x < W * group_threads) {
    if constexpr (W > 1) take_registers<B == 1 ? 232 : 104>();
    attend<B == 1>(shared, p, tile, head, keys, range);
  } else {
    if constexpr (W > 1) leave_registers<B == 1 ? 40 : 32>();
    if (threadIdx.x < W * group_threads + 32) copy_tiles(shared, p, maps, tile, head, keys, range);
  }
#endif
}

template <class T, int D, int N, int W, int B>
void launch(exec& ex, const attention_problem& p) {
  const tensor_maps maps{map_of_queries(p, group_queries), p.paged ? map_of_pages(p, p.keys) : map_of_keys(p, N),
                         p.paged ? map_of_pages(p, p.values) : map_of_values(p, N)};
  const int64_t tiles = p.tokens / (W * group_queries) + p.rows;
  launch_kernel(ex, "attention",
                {grid_size(tiles * p.heads, "attention"), (W + 1) * group_threads, sizeof(tile_layout<T, D, N, W>)},
                attend_prefill<T, D, N, W, B>, p, maps);
}

// More queries a block where rows fill them and there are enough for every multiprocessor.
template <class T, int D, int N, int W, int B>
void launch_rows(exec& ex, const attention_problem& p) {
  const int64_t queries = W * group_queries;
  const int processors = device_attribute(cudaDevAttrMultiProcessorCount);
  if (p.tokens / p.rows >= queries * 3 / 4 && p.tokens / queries * p.heads >= processors * B)
    launch<T, D, N, W, B>(ex, p);
  else
    launch<T, D, N, 1, 1>(ex, p);
}

template <class T>
void launch(exec& ex, const attention_problem& p) {
  if (p.head_dim <= 64) return launch_rows<T, 64, 64, 2, 2>(ex, p);
  if (p.head_dim <= 128) return launch_rows<T, 128, 128, 2, 1>(ex, p);
  launch_rows<T, 256, 64, 2, 1>(ex, p);
}

}  // namespace

void prefill_attention_sm90(exec& ex, const attention_problem& p) {
  if (p.type == dtype::f16)
    launch<__half>(ex, p);
  else
    launch<__nv_bfloat16>(ex, p);
}

}  // namespace ft::cuda
