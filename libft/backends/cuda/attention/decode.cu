// Attention of rows with one query, their keys in pages: what a decoding step does, and bound by reading the cache.
//
// A row's keys are cut into splits of a fixed number of keys, a block each for every head of keys, so that one row of a
// long context fills the chip (FlashDecoding's scheme). The blocks of up to eight splits form a cluster, which joins
// them through its shared memory; more of them, and GPUs without clusters, leave that to a second kernel. Cuts depend
// on the length of the page table alone, not on the batch, and both ways of joining add in the same order.
//
// The kernel of splits here serves all types and GPUs; decode_tiles.cu has that of newer ones, and decode_cascade.cu
// one for rows that share keys. The queries that share a head of keys share what is loaded: `Lanes` neighbouring lanes
// hold a key, eight elements each, for all of them. A lane keeps the keys it has seen in registers as an online softmax
// (arXiv:2205.14135); lanes, then warps, are joined at the end.
#include <algorithm>

#include "backends/cuda/attention/decode.h"
#include "backends/cuda/attention/head_maps.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int slice = 8;

// The keys of a block, where the context is not so long that there would be too many splits: four tiles of each of a
// tile kernel's warps, else two rounds of loads.
constexpr int shortest_split(int head_dim, bool tiles) { return tiles ? 256 : head_dim > 128 ? 64 : 128; }

// Eight elements at `from`; zeros from the valid-th on. Several such loads are in flight before the first is used.
template <class T>
__device__ pack<T, slice> load_slice(const T* from, int valid, bool vectors) {
  pack<T, slice> p{};
  if (vectors) {
    if (valid > 0) p = *reinterpret_cast<const pack<T, slice>*>(from);
  } else {
#pragma unroll
    for (int i = 0; i < slice; ++i)
      if (i < valid) p.at[i] = from[i];
  }
  return p;
}

// Slices of a token's queries of `heads` heads from first_head on; zeros for the others of G. At once where they have
// the keys' type.
template <class T, int G>
__device__ void load_queries(const attention_problem& p, int token, int first_head, int heads, int c,
                             float (&query)[G][slice]) {
  const int64_t first = token * p.query_stride + first_head * p.query_head_stride + c;
  const int valid = p.head_dim - c;
  if (p.type == p.key_type) {
    pack<T, slice> loaded[G];
#pragma unroll
    for (int g = 0; g < G; ++g)
      loaded[g] = load_slice(static_cast<const T*>(p.query) + first + g * p.query_head_stride, g < heads ? valid : 0,
                             p.vectors);
#pragma unroll
    for (int g = 0; g < G; ++g)
#pragma unroll
      for (int i = 0; i < slice; ++i) query[g][i] = widen(loaded[g].at[i]);
    return;
  }
#pragma unroll
  for (int g = 0; g < G; ++g)
#pragma unroll
    for (int i = 0; i < slice; ++i)
      query[g][i] = g < heads && i < valid ? element(p.query, p.type, first + g * p.query_head_stride + i) : 0.f;
}

// The online softmax of G queries over the keys that a lane has seen, for its slice of the head.
template <int G>
struct running {
  float largest[G], sum[G], acc[G][slice];

  __device__ running() {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      largest[g] = -INFINITY;
      sum[g] = 0;
#pragma unroll
      for (int i = 0; i < slice; ++i) acc[g][i] = 0;
    }
  }

  // Adds U keys: their scores, -infinity for none, and slices of their values.
  template <int U, class T>
  __device__ void add(int g, const float (&score)[U], const pack<T, slice> (&value)[U]) {
    float next = largest[g];
#pragma unroll
    for (int u = 0; u < U; ++u) next = fmaxf(next, score[u]);
    if (next == -INFINITY) return;
    const float shrink = exp2_of(largest[g] - next);
    largest[g] = next;
    sum[g] *= shrink;
#pragma unroll
    for (int i = 0; i < slice; ++i) acc[g][i] *= shrink;
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const float weight = exp2_of(score[u] - next);
      sum[g] += weight;
#pragma unroll
      for (int i = 0; i < slice; ++i) acc[g][i] += weight * widen(value[u].at[i]);
    }
  }

  // Joins with the lanes of the warp that hold the same slice for other keys.
  template <int Lanes>
  __device__ void join_lanes() {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float all = largest[g];
#pragma unroll
      for (int d = Lanes; d < 32; d *= 2) all = fmaxf(all, __shfl_xor_sync(0xffffffffu, all, d));
      const float shrink = largest[g] == -INFINITY ? 0 : exp2_of(largest[g] - all);
      largest[g] = all;
      sum[g] *= shrink;
#pragma unroll
      for (int i = 0; i < slice; ++i) acc[g][i] *= shrink;
#pragma unroll
      for (int d = Lanes; d < 32; d *= 2) {
        sum[g] += __shfl_xor_sync(0xffffffffu, sum[g], d);
#pragma unroll
        for (int i = 0; i < slice; ++i) acc[g][i] += __shfl_xor_sync(0xffffffffu, acc[g][i], d);
      }
    }
  }
};

template <class T, int Lanes, int G>
__global__ void __launch_bounds__(decode_threads) attend_split(const attention_problem p, const split_results to) {
  // U keys a lane at once: as many loads in flight as registers allow beside the G queries.
  constexpr int groups = decode_threads / Lanes, U = sizeof(T) == 4 ? 2 : G == 1 ? 8 : 4;
  __shared__ warp_results<Lanes * slice, G> shared;
  __shared__ block_results<Lanes * slice, G> own;
  await_previous_kernel();
  const int row = blockIdx.z, split = blockIdx.x, group = p.heads / p.kv_heads;
  const int chunks = (group + G - 1) / G, kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks;
  const int first_head = kv_head * group + chunk * G, heads = min(G, group - chunk * G);
  const int token = p.row_offsets[row];
  if (p.row_offsets[row + 1] - token != 1) return;
  const row_keys<true> keys(p, row, 1, kv_head);
  const int position = keys.first_position;
  const int begin = max(keys.first_seen(p, position), split * to.keys_a_split);
  const int end = min(keys.last_seen(p, position), (split + 1) * to.keys_a_split);
  if (begin >= end) return finish_empty_split(own, p, to, heads_of_token{token, first_head}, heads);

  const int lane_group = threadIdx.x / Lanes, c = threadIdx.x % Lanes * slice, valid = p.head_dim - c;
  const int inside = valid > 0 ? c : 0;
  float query[G][slice];
  load_queries<T>(p, token, first_head, heads, c, query);

  const T* key_data = static_cast<const T*>(p.keys);
  const T* value_data = static_cast<const T*>(p.values);
  running<G> state;
  for (int first = begin; first < end; first += groups * U) {
    // Without a branch, so that all loads of a kind are in flight together: beyond the end the last key stands in,
    // whose score is replaced, and beyond the head its beginning, which the query's zeros take out.
    int64_t key_at[U], value_at[U];
#pragma unroll
    for (int u = 0; u < U; ++u) keys.locate(p, min(first + u * groups + lane_group, end - 1), key_at[u], value_at[u]);
    pack<T, slice> key[U], value[U];
    if (p.vectors) {
#pragma unroll
      for (int u = 0; u < U; ++u) {
        key[u] = *reinterpret_cast<const pack<T, slice>*>(key_data + key_at[u] + inside);
        value[u] = *reinterpret_cast<const pack<T, slice>*>(value_data + value_at[u] + inside);
      }
    } else {
#pragma unroll
      for (int u = 0; u < U; ++u) {
        key[u] = load_slice(key_data + key_at[u] + c, valid, false);
        value[u] = load_slice(value_data + value_at[u] + c, valid, false);
      }
    }
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float score[U];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        const int j = first + u * groups + lane_group;
        float dot = 0;
#pragma unroll
        for (int i = 0; i < slice; ++i) dot += query[g][i] * widen(key[u].at[i]);
        score[u] = score_of(p, warp_reduce<Lanes>(dot, add_up{}));
        if (has_bias(p)) score[u] += bias_of(p, min(first_head + g, p.heads - 1), j - position);
        if (j >= end) score[u] = -INFINITY;
      }
      state.template add<U>(g, score, value);
    }
  }

  state.template join_lanes<Lanes>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane < Lanes) {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      store<slice>(&shared.sums[warp][g][c], state.acc[g]);
      if (lane == 0) {
        shared.largest[warp][g] = state.largest[g];
        shared.sum[warp][g] = state.sum[g];
      }
    }
  }
  __syncthreads();
  finish_split(shared, own, p, to, heads_of_token{token, first_head}, heads);
}

// Joins a row's splits: a block a row and head, along x a thread for an element of the head, along y for groups of as
// many splits as a cluster has. Groups are joined in their order too, so that up to that many are added as a cluster's
// are.
__global__ void __launch_bounds__(1024) join_splits(const attention_problem p, const split_results from) {
  constexpr int most_groups = most_splits / most_in_cluster, rounds = most_splits / 32;
  __shared__ float weights[most_splits], sums[most_splits], group_values[most_groups][widest_head],
      group_totals[most_groups];
  const int head = blockIdx.x, row = blockIdx.y, token = p.row_offsets[row];
  const bool single = p.row_offsets[row + 1] - token == 1;
  const row_keys<true> keys(p, row, 1, 0);
  const int position = keys.first_position;
  const int first = keys.first_seen(p, position) / from.keys_a_split;
  const int count = (keys.last_seen(p, position) + from.keys_a_split - 1) / from.keys_a_split - first;
  const int64_t at = from.index(row, p.heads, head, first);
  await_previous_kernel();
  if (!single) return;

  if (threadIdx.y == 0 && threadIdx.x < 32) {
    float2 stats[rounds];
    float largest = -INFINITY;
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
      const int s = threadIdx.x + i * 32;
      stats[i] = s < count ? from.stats[at + s] : make_float2(-INFINITY, 0);
      largest = fmaxf(largest, stats[i].x);
    }
    largest = warp_reduce(largest, larger{});
#pragma unroll
    for (int i = 0; i < rounds; ++i) {
      weights[threadIdx.x + i * 32] = exp2_of(stats[i].x - largest);
      sums[threadIdx.x + i * 32] = stats[i].y;
    }
  }
  __syncthreads();
  const int c = threadIdx.x, groups = (count + most_in_cluster - 1) / most_in_cluster;
  for (int g = threadIdx.y; g < groups; g += blockDim.y) {
    joined group;
#pragma unroll
    for (int i = 0; i < most_in_cluster; ++i) {
      const int s = g * most_in_cluster + i;
      const float element = s < count && c < p.head_dim ? from.sums[(at + s) * p.head_dim + c] : 0;
      group.add(weights[s], sums[s], element);
    }
    if (c < p.head_dim) group_values[g][c] = group.value;
    if (c == 0) group_totals[g] = group.total;
  }
  __syncthreads();
  if (threadIdx.y > 0 || c >= p.head_dim) return;
  joined all;
  for (int g = 0; g < groups; ++g) all.add(1, group_totals[g], group_values[g][c]);
  write_result(p, token, head, c, all);
}

template <class T, int Lanes, int G>
void launch_splits(exec& ex, const attention_problem& p, const split_results& to) {
  const auto chunks = static_cast<unsigned>(ceil_div(p.heads / p.kv_heads, G));
  launch_kernel(ex, "paged_attention", {dim3(to.splits, p.kv_heads * chunks, p.rows), decode_threads, 0, to.cluster()},
                attend_split<T, Lanes, G>, p, to);
}

template <class T, int Lanes>
void launch_splits(exec& ex, const attention_problem& p, const split_results& to) {
  const int group = p.heads / p.kv_heads;
  if (group == 1) return launch_splits<T, Lanes, 1>(ex, p, to);
  if (group == 2) return launch_splits<T, Lanes, 2>(ex, p, to);
  if (group <= 4) return launch_splits<T, Lanes, 4>(ex, p, to);
  launch_splits<T, Lanes, widest_group>(ex, p, to);
}

bool takes_tiles(const attention_problem& p) { return capabilities().tile_copies && tiles_can_be_copied(p); }

// Rows that share keys are taken together where a block for each of them alone would fill the GPU more than once over.
bool grouping_pays(const attention_problem& p) {
  return p.num_groups > 0 && p.widest_group > 1 && p.window == 0 && p.tokens == p.rows &&
         int64_t{p.rows} * p.kv_heads >= 2 * device_attribute(cudaDevAttrMultiProcessorCount);
}

}  // namespace

bool stores_own_keys(const attention_problem& p) { return p.tokens == p.rows && takes_tiles(p) && !grouping_pays(p); }

void decode_attention(exec& ex, const attention_problem& p) {
  const int64_t longest = int64_t{p.max_pages} * p.pages.page_tokens;
  const bool tiles = takes_tiles(p);
  if (tiles && grouping_pays(p)) return attend_cascade(ex, p);
  split_results to{};
  to.keys_a_split = shortest_split(p.head_dim, tiles);
  while (ceil_div(longest, to.keys_a_split) > most_splits) to.keys_a_split *= 2;
  to.splits = static_cast<int>(std::max<int64_t>(1, ceil_div(longest, to.keys_a_split)));
  arena::scope scope(ex.scratch);
  if (to.splits > (capabilities().clusters ? most_in_cluster : 1)) {
    const int64_t results = int64_t{p.rows} * p.heads * to.splits;
    to.sums = ex.scratch.make<float>(results * p.head_dim);
    to.stats = ex.scratch.make<float2>(results);
  }
  if (tiles)
    attend_splits_of_tiles(ex, p, to);
  else
    with_float(p.key_type, [&](auto element) {
      using T = decltype(element);
      if (p.head_dim <= 8 * slice)
        launch_splits<T, 8>(ex, p, to);
      else if (p.head_dim <= 16 * slice)
        launch_splits<T, 16>(ex, p, to);
      else
        launch_splits<T, 32>(ex, p, to);
    });
  if (!to.sums) return;
  const auto width = static_cast<unsigned>(ceil_div(p.head_dim, 32) * 32);
  launch_kernel(ex, "paged_attention", {dim3(p.heads, p.rows), dim3(width, std::min(1024 / width, 8u))}, join_splits, p,
                to);
}

}  // namespace ft::cuda
