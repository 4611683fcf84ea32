// The splits of decode attention (decode.cu) for compute capability 9.0 and newer, where pages are copied to shared
// memory as tiles, so that what is in flight takes no registers, and scores are computed on tensor cores.
//
// A warp has every fourth 16 keys of its block's split. It keeps a few of them on their way, and for each computes the
// scores as keys [16, D] · queries [D, 8] (mma m16n8k16: up to eight queries that share a head of keys are columns),
// and adds values [D, 16] · weights [16, 8]. Weights are rounded to the values' type to be multiplied, as those of
// prompts are.
#include <climits>

#include "backends/cuda/attention/decode_tiles.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

#if __CUDA_ARCH__ >= 900

// What is added to a lane's scores of a tile, loaded while the tile is on its way.
__device__ void look_up_bias(float (&bias)[4], const attention_problem& p, int first_head, int first, int position) {
  if (!has_bias(p)) return;
  const int lane = threadIdx.x % 32, row = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int e = 0; e < 4; ++e)
    bias[e] = bias_of(p, min(first_head + pair + e % 2, p.heads - 1), first + row + e / 2 * 8 - position);
}

// Turns dot products into scores, -infinity where the keys' positions are outside [begin, end).
__device__ void finish_scores(float (&scores)[4], const attention_problem& p, const float (&bias)[4], int first,
                              int begin, int end) {
  const int row = threadIdx.x % 32 / 4;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int j = first + row + e / 2 * 8;
    scores[e] = j < begin || j >= end ? -INFINITY : score_of(p, scores[e]) + bias[e];
  }
}

// The block's queries and, behind them where it is wanted, the step's own key, turned. All threads of the block call.
template <class T, int D, int G>
__device__ void turn_heads(T (&to)[G + 1][D], const attention_problem& p, const heads_of_token& queries, int count,
                           const T* key) {
  const rotary_pairs& pairs = p.own.pairs;
  const int turned = pairs.n / vector_width, vectors = p.head_dim / vector_width - turned;  // of pairs, and all
  for (int i = threadIdx.x; i < (count + (key ? 1 : 0)) * vectors; i += decode_threads) {
    const int h = i / vectors, at = i % vectors;
    const T* from = h < count ? query_of<T>(p, queries.token(h), queries.head(h)) : key;
    T* head = to[h < count ? h : G];
    if (at < turned) {
      pairs.turn<vector_width>(queries.token(h), at * vector_width, from, head);
    } else {
      const int c = 2 * pairs.n + (at - turned) * vector_width;
      *reinterpret_cast<uint4*>(head + c) = *reinterpret_cast<const uint4*>(from + c);
    }
  }
  __syncthreads();
}

// A lane's sixteen bytes of one row of a tile, by all lanes of the warp.
template <class T, int D>
__device__ void put_row(key_tile<T, D>& tile, int row, int head_dim, const uint4& bits) {
  const int column = threadIdx.x % 32 * vector_width;
  if (column < head_dim) *reinterpret_cast<uint4*>(piece(tile, row, column)) = bits;
  __syncwarp();
}

#endif

template <class T, int D, int G, int S>
struct tile_memory : split_memory<T, D, G, S> {
  alignas(16) T turned[G + 1][D];
};

template <class T, int D, int G, int S>
__global__ void __launch_bounds__(decode_threads)
    attend_tiles(const attention_problem p, const split_results to, const __grid_constant__ page_maps maps) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<tile_memory<T, D, G, S>*>(shared_bytes);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto& ring = shared.rings[warp];
  uint64_t *keys_full = shared.keys_full[warp], *values_full = shared.values_full[warp];
  open_rings<S>(keys_full, values_full);

  const int row = blockIdx.z, split = blockIdx.x, group = p.heads / p.kv_heads;
  const int chunks = (group + G - 1) / G, kv_head = blockIdx.y / chunks, chunk = blockIdx.y % chunks;
  const int first_head = kv_head * group + chunk * G, heads = min(G, group - chunk * G);
  // The warp's i-th tile is that of keys first_key + i * stride. Lanes look up the pages of the next 32 before it is
  // known how many of them there are.
  constexpr int stride = decode_warps * keys_a_tile;
  const int first_key = split * to.keys_a_split + warp * keys_a_tile;
  const int32_t* table = p.page_table + row * p.page_table_stride;
  const auto look_up = [&](int i) {
    const int page = (first_key + (i + lane) * stride) / p.pages.page_tokens;
    return page < p.max_pages ? table[page] : 0;
  };
  int pages = look_up(0);
  const int token = p.row_offsets[row];
  const heads_of_token columns{token, first_head};
  const bool single = p.row_offsets[row + 1] - token == 1;
  const row_keys<true> keys(p, row, 1, kv_head);
  const int position = keys.first_position;
  const int begin = max(keys.first_seen(p, position), split * to.keys_a_split);
  const int end = min(keys.last_seen(p, position), (split + 1) * to.keys_a_split);
  const int skipped = begin - first_key - keys_a_tile + 1;
  const int first_tile = skipped > 0 ? (skipped + stride - 1) / stride : 0;
  const int tiles = (end - first_key + stride - 1) / stride;  // not more than zero where the warp has none
  if (first_tile >= 32) pages = look_up(first_tile / 32 * 32);
  const auto copy = [&](key_tile<T, D>(&to_ring)[S], uint64_t* full, const CUtensorMap& map, int i) {
    const int page = __shfl_sync(0xffffffffu, pages, i % 32), s = (i - first_tile) % S;
    if (lane != 0) return;
    const int at = (first_key + i * stride) % p.pages.page_tokens;
    tma_load_tile<T, D>(to_ring[s], full[s], map, at, page * p.kv_heads + kv_head);
  };
  const auto copy_keys = [&](int i) {
    if (i % 32 == 0 && i > first_tile) pages = look_up(i);
    copy(ring.keys, keys_full, maps.keys, i);
  };

  const int first_copies = single && begin < end ? min(tiles, first_tile + S) : first_tile;
  int copied = first_tile;
  const auto copy_first = [&](int keys_end) {
    for (; copied < first_copies && first_key + copied * stride + keys_a_tile <= keys_end; ++copied) {
      copy_keys(copied);
      copy(ring.values, values_full, maps.values, copied);
    }
  };
  // What lies in pages since before the step's numbers came: all keys but the step's own, which the kernel before this
  // one may still write, or which this one brings.
  copy_first(p.own.key ? INT_MAX : p.causal ? position : keys.count);
  await_previous_kernel();
  copy_first(INT_MAX);
  if (!single) return;
  if (begin >= end) return finish_empty_split(shared.own, p, to, columns, heads);

  // The step's own key is the last of its split. The warp that has its tile stores it and its value in their page, and
  // puts them into the tiles.
  const bool turns = p.own.pairs.table, brings = p.own.key && end == position + 1;
  const int own_place = position - first_key;
  const bool has_own = brings && own_place >= 0 && own_place % stride < keys_a_tile;
  const int own_tile = has_own ? own_place / stride : -1;
  const T* key =
      brings ? static_cast<const T*>(p.own.key) + token * p.own.key_stride + kv_head * p.own.key_head_stride : nullptr;
  if (turns) turn_heads<T, D, G>(shared.turned, p, columns, heads, key);
  uint4 own_key{}, own_value{};
  if (has_own && lane * vector_width < p.head_dim) {
    const int column = lane * vector_width, slot = p.own.slots[token];
    const T* value =
        static_cast<const T*>(p.own.value) + token * p.own.value_stride + kv_head * p.own.value_head_stride;
    own_key = *reinterpret_cast<const uint4*>((turns ? shared.turned[G] : key) + column);
    own_value = *reinterpret_cast<const uint4*>(value + column);
    if (chunk == 0) {
      const int64_t at = p.pages.begin(slot / p.pages.page_tokens, kv_head, slot % p.pages.page_tokens) + column;
      *reinterpret_cast<uint4*>(const_cast<T*>(static_cast<const T*>(p.keys)) + at) = own_key;
      *reinterpret_cast<uint4*>(const_cast<T*>(static_cast<const T*>(p.values)) + at) = own_value;
    }
  }

  uint32_t queries[D / 16][2];
  load_queries<T, D>(queries, p.head_dim, heads, [&](int g) -> const T* {
    return turns ? shared.turned[g] : query_of<T>(p, token, first_head + g);
  });
  lane_softmax state;
  float acc[D / 16][4] = {};
  for (int i = first_tile; i < tiles; ++i) {
    const int s = (i - first_tile) % S, parity = (i - first_tile) / S % 2, first = first_key + i * stride;
    float scores[4] = {}, bias[4] = {};
    look_up_bias(bias, p, first_head, first, position);
    mbarrier_wait(keys_full[s], parity);
    if (i == own_tile) put_row<T, D>(ring.keys[s], position - first, p.head_dim, own_key);
    multiply_keys<T, D>(scores, ring.keys[s], queries);
    __syncwarp();  // the keys are read
    if (i + S < tiles) copy_keys(i + S);
    finish_scores(scores, p, bias, first, begin, end);
    state.take(scores);
    mbarrier_wait(values_full[s], parity);
    if (i == own_tile) put_row<T, D>(ring.values[s], position - first, p.head_dim, own_value);
    if (end - first < keys_a_tile) clear_values<T, D>(ring.values[s], end - first);
    add_values<T, D>(acc, state, ring.values[s], scores);
    __syncwarp();  // the values are read
    if (i + S < tiles) copy(ring.values, values_full, maps.values, i + S);
  }
  finish_tiles<T, D, G, S>(shared, acc, state, p, to, columns, heads);
#endif
}

template <class T, int D, int G, int S>
void launch(exec& ex, const attention_problem& p, const split_results& to) {
  const page_maps maps{map_of_pages(p, p.keys), map_of_pages(p, p.values)};
  const auto chunks = static_cast<unsigned>(ceil_div(p.heads / p.kv_heads, G));
  launch_kernel(
      ex, "paged_attention",
      {dim3(to.splits, p.kv_heads * chunks, p.rows), decode_threads, sizeof(tile_memory<T, D, G, S>), to.cluster()},
      attend_tiles<T, D, G, S>, p, to, maps);
}

template <class T, int D, int S>
void launch(exec& ex, const attention_problem& p, const split_results& to) {
  const int group = p.heads / p.kv_heads;
  if (group == 1) return launch<T, D, 1, S>(ex, p, to);
  if (group <= 4) return launch<T, D, 4, S>(ex, p, to);
  launch<T, D, widest_group, S>(ex, p, to);
}

// Blocks that are fewer than half the multiprocessors have all the more on its way each.
template <class T, int D, int Many, int Few>
void launch_ring(exec& ex, const attention_problem& p, const split_results& to) {
  const int64_t blocks = int64_t{to.splits} * p.rows * p.kv_heads;
  if (2 * blocks <= device_attribute(cudaDevAttrMultiProcessorCount))
    launch<T, D, Few>(ex, p, to);
  else
    launch<T, D, Many>(ex, p, to);
}

template <class T>
void launch(exec& ex, const attention_problem& p, const split_results& to) {
  if (p.head_dim <= 64) return launch_ring<T, 64, 2, 4>(ex, p, to);
  if (p.head_dim <= 128) return launch_ring<T, 128, 1, 4>(ex, p, to);
  launch_ring<T, 256, 1, 3>(ex, p, to);
}

}  // namespace

void attend_splits_of_tiles(exec& ex, const attention_problem& p, const split_results& to) {
  if (p.type == dtype::f16)
    launch<__half>(ex, p, to);
  else
    launch<__nv_bfloat16>(ex, p, to);
}

}  // namespace ft::cuda
