// Cascade decode: attention of single tokens whose rows share keys, as beams and samples of one prompt do, and an
// encoder's states. A block has a head of keys and up to eight queries of several rows, and reads what they share once
// for all of them (the idea of Hydragen, arXiv:2402.05099); then each row's own keys, for its own queries.
//
// The keys of a block are counted one after another as though they were one row's: the shared ones, then each row's own
// up to the longest row's end, both rounded up to whole tiles. Splits are cuts of that count into equal parts, joined
// in a cluster.
#include <algorithm>

#include "backends/cuda/attention/decode_tiles.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int keys_a_split = 512;  // about, of as many as the page table has room for

// A block's queries: of all (row, head) of a group and a head of keys, row by row, those from `first` on.
struct heads_of_rows {
  int first_row, first_head, group, first;
  static constexpr bool may_lack_keys = true;  // keys that are one row's own are none of the others'

  __device__ int token(int g) const { return first_row + (first + g) / group; }
  __device__ int head(int g) const { return first_head + (first + g) % group; }
};

#if __CUDA_ARCH__ >= 900

// How the keys of a block's rows are counted.
struct counted_keys {
  int shared, own;  // rounded up to whole tiles
  int total;

  __device__ counted_keys(const attention_problem& p, int shared_length, int first_row, int rows) {
    int longest = 0;
    for (int r = 0; r < rows; ++r) longest = max(longest, p.context_lengths[first_row + r]);
    shared = round_up(min(shared_length, longest));
    own = round_up(max(0, longest - shared));
    total = shared + rows * own;
  }

  // The row, from the block's first, whose own keys are at count v; -1: all share them.
  __device__ int row_at(int v) const { return v < shared ? -1 : (v - shared) / own; }
  // The position of the key at count v.
  __device__ int key_at(int v) const { return v < shared ? v : shared + (v - shared) % own; }

 private:
  __device__ static int round_up(int n) { return (n + keys_a_tile - 1) / keys_a_tile * keys_a_tile; }
};

// The two queries of a lane's scores.
struct lane_queries {
  int row[2], head[2], length[2];  // row: from the block's first

  __device__ lane_queries(const attention_problem& p, const heads_of_rows& queries, int count, int first_row) {
#pragma unroll
    for (int q = 0; q < 2; ++q) {
      const int g = min(static_cast<int>(threadIdx.x) % 4 * 2 + q, count - 1), token = queries.token(g);
      row[q] = token - first_row;
      head[q] = queries.head(g);
      length[q] = p.context_lengths[token];
    }
  }

  // Turns the dot products of 16 keys from position `first` on into scores, -infinity where a key is none of the
  // query's.
  __device__ void finish_scores(float (&scores)[4], const attention_problem& p, int first, int owner, int end) const {
    const int lane_row = threadIdx.x % 32 / 4;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int j = first + lane_row + e / 2 * 8, q = e % 2;
      const bool seen = j < min(end, length[q]) && (owner < 0 || owner == row[q]);
      float bias = 0;
      if (has_bias(p)) bias = bias_of(p, head[q], j - (length[q] - 1));
      scores[e] = seen ? score_of(p, scores[e]) + bias : -INFINITY;
    }
  }
};

#endif

template <class T, int D, int G, int S>
__global__ void __launch_bounds__(decode_threads)
    attend_cascade_group(const attention_problem p, const split_results to, const __grid_constant__ page_maps maps) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) uint8_t shared_bytes[];
  auto& shared = *reinterpret_cast<split_memory<T, D, G, S>*>(shared_bytes);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto& ring = shared.rings[warp];
  uint64_t *keys_full = shared.keys_full[warp], *values_full = shared.values_full[warp];
  open_rings<S>(keys_full, values_full);

  const int group = p.heads / p.kv_heads, chunks = gridDim.y / p.kv_heads;
  const int kv_head = blockIdx.y / chunks, first = blockIdx.y % chunks * G;
  const int group_row = p.group_offsets[blockIdx.z], group_rows = p.group_offsets[blockIdx.z + 1] - group_row;
  const int count = min(G, group_rows * group - first);
  if (count <= 0) return await_previous_kernel();  // a smaller group than others: so do all blocks of the cluster
  const heads_of_rows columns{group_row, kv_head * group, group, first};
  const int first_row = columns.token(0), rows = columns.token(count - 1) - first_row + 1;
  const int shared_length = p.shared_lengths[blockIdx.z];
  const counted_keys keys(p, shared_length, first_row, rows);

  // The warp's i-th tile is the one at count first_key + i * stride.
  constexpr int stride = decode_warps * keys_a_tile;
  const int keys_a_block = (keys.total + to.splits * stride - 1) / (to.splits * stride) * stride;
  const int begin = blockIdx.x * keys_a_block, end = min(keys.total, begin + keys_a_block);
  const int first_key = begin + warp * keys_a_tile;
  const int tiles = (end - first_key + stride - 1) / stride;  // not more than zero where the warp has none
  const auto look_up = [&](int i) {
    const int v = first_key + (i + lane) * stride;
    if (v >= end) return 0;
    return p
        .page_table[(first_row + max(0, keys.row_at(v))) * p.page_table_stride + keys.key_at(v) / p.pages.page_tokens];
  };
  int pages = look_up(0);
  const auto copy = [&](key_tile<T, D>(&to_ring)[S], uint64_t* full, const CUtensorMap& map, int i) {
    const int page = __shfl_sync(0xffffffffu, pages, i % 32), s = i % S;
    if (lane != 0) return;
    const int at = keys.key_at(first_key + i * stride) % p.pages.page_tokens;
    tma_load_tile<T, D>(to_ring[s], full[s], map, at, page * p.kv_heads + kv_head);
  };
  const auto copy_keys = [&](int i) {
    if (i % 32 == 0 && i > 0) pages = look_up(i);
    copy(ring.keys, keys_full, maps.keys, i);
  };

  // What all share lies in pages since before the step's numbers came; the step's own keys are others, which the kernel
  // before this one may still write.
  int copied = 0;
  const auto copy_first = [&](int before) {
    for (; copied < min(tiles, S) && first_key + copied * stride < before; ++copied) {
      copy_keys(copied);
      copy(ring.values, values_full, maps.values, copied);
    }
  };
  copy_first(keys.shared);
  await_previous_kernel();
  copy_first(end);
  if (begin >= end) return finish_empty_split(shared.own, p, to, columns, count);

  uint32_t queries[D / 16][2];
  load_queries<T, D>(queries, p.head_dim, count,
                     [&](int g) { return query_of<T>(p, columns.token(g), columns.head(g)); });
  const lane_queries own(p, columns, count, first_row);
  lane_softmax state;
  float acc[D / 16][4] = {};
  for (int i = 0; i < tiles; ++i) {
    const int s = i % S, parity = i / S % 2, v = first_key + i * stride;
    const int owner = keys.row_at(v), at = keys.key_at(v);
    const int last = owner < 0 ? shared_length : p.context_lengths[first_row + owner];
    float scores[4] = {};
    mbarrier_wait(keys_full[s], parity);
    multiply_keys<T, D>(scores, ring.keys[s], queries);
    __syncwarp();  // the keys are read
    if (i + S < tiles) copy_keys(i + S);
    own.finish_scores(scores, p, at, owner, last);
    state.take<true>(scores);
    mbarrier_wait(values_full[s], parity);
    if (last - at < keys_a_tile) clear_values<T, D>(ring.values[s], max(0, last - at));
    add_values<T, D>(acc, state, ring.values[s], scores);
    __syncwarp();  // the values are read
    if (i + S < tiles) copy(ring.values, values_full, maps.values, i + S);
  }
  finish_tiles<T, D, G, S>(shared, acc, state, p, to, columns, count);
#endif
}

template <class T, int D, int G, int S>
void launch(exec& ex, const attention_problem& p, const split_results& to) {
  const page_maps maps{map_of_pages(p, p.keys), map_of_pages(p, p.values)};
  const auto chunks = static_cast<unsigned>(ceil_div(p.widest_group * (p.heads / p.kv_heads), G));
  launch_kernel(ex, "paged_attention",
                {dim3(to.splits, p.kv_heads * chunks, p.num_groups), decode_threads, sizeof(split_memory<T, D, G, S>),
                 to.cluster()},
                attend_cascade_group<T, D, G, S>, p, to, maps);
}

template <class T, int D, int Many, int Few>
void launch_ring(exec& ex, const attention_problem& p, const split_results& to) {
  const bool few = int64_t{to.splits} * p.num_groups * p.kv_heads <= device_attribute(cudaDevAttrMultiProcessorCount);
  const bool narrow = p.widest_group * (p.heads / p.kv_heads) <= 4;
  if (narrow) return few ? launch<T, D, 4, Few>(ex, p, to) : launch<T, D, 4, Many>(ex, p, to);
  return few ? launch<T, D, widest_group, Few>(ex, p, to) : launch<T, D, widest_group, Many>(ex, p, to);
}

template <class T>
void launch(exec& ex, const attention_problem& p, const split_results& to) {
  if (p.head_dim <= 64) return launch_ring<T, 64, 2, 4>(ex, p, to);
  if (p.head_dim <= 128) return launch_ring<T, 128, 2, 4>(ex, p, to);
  launch_ring<T, 256, 1, 3>(ex, p, to);
}

}  // namespace

void attend_cascade(exec& ex, const attention_problem& p) {
  const int64_t longest = int64_t{p.max_pages} * p.pages.page_tokens;
  split_results to{};
  to.splits = static_cast<int>(std::clamp<int64_t>(longest / keys_a_split, 1, most_in_cluster));
  if (p.type == dtype::f16)
    launch<__half>(ex, p, to);
  else
    launch<__nv_bfloat16>(ex, p, to);
}

}  // namespace ft::cuda
