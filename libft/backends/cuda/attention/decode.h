// What the kernels of decode attention share: how a row's keys are cut into splits, and how the results of warps, then
// of splits, are joined. A split's keys, and the order in which results are added, depend on the page table's length
// alone.
#pragma once

#include "backends/cuda/attention/problem.h"
#include "backends/cuda/kernel/launch.h"

#ifdef __CUDACC__
#include <cooperative_groups.h>
#endif

namespace ft::cuda {

inline constexpr int decode_threads = 128, decode_warps = decode_threads / 32;
inline constexpr int most_in_cluster = 8;
inline constexpr int most_splits = 256, widest_group = 8;

struct split_results {
  float* sums;  // [rows, heads, splits, head_dim], relative to `largest`; null where one block or cluster has them all
  float2* stats;  // [rows, heads, splits]: the largest score, the sum of the exponentials
  int splits;
  int keys_a_split;

  // Whether the blocks of a row's splits are a cluster.
  __host__ __device__ bool in_cluster() const { return splits > 1 && !sums; }
  unsigned cluster() const { return in_cluster() ? static_cast<unsigned>(splits) : 1; }
  __host__ __device__ int64_t index(int row, int heads, int head, int split) const {
    return (static_cast<int64_t>(row) * heads + head) * splits + split;
  }
};

// decode_tiles.cu: the splits of a problem whose keys can be copied as tiles.
void attend_splits_of_tiles(exec&, const attention_problem&, const split_results&);
// decode_cascade.cu: the whole of such a problem, by its groups of rows that share keys.
void attend_cascade(exec&, const attention_problem&);

#ifdef __CUDACC__

template <int D, int G>
struct warp_results {
  alignas(16) float sums[decode_warps][G][D];
  float largest[decode_warps][G], sum[decode_warps][G];
};

template <int D, int G>
struct block_results {
  float sums[G][D];
  float largest[G], sum[G];
};

// One element of a head's result, and the sum that divides it, of several splits in their order.
struct joined {
  float value = 0, total = 0;

  __device__ inline void add(float weight, float sum, float element) {
    total = fmaf(weight, sum, total);
    value = fmaf(weight, element, value);
  }
};

__device__ inline void write_result(const attention_problem& p, int token, int head, int c, const joined& j) {
  set_element(p.out, p.type, (static_cast<int64_t>(token) * p.heads + head) * p.head_dim + c, j.value / j.total);
}

// Which queries a block has: heads of one token from first_head on.
struct heads_of_token {
  int first_token, first_head;
  static constexpr bool may_lack_keys = false;  // a warp, or block, that has keys has some of every query

  __device__ int token(int) const { return first_token; }
  __device__ int head(int g) const { return first_head + g; }
};

// Joins the warps' results: finish(g, c, largest, joined) for every element c of the head of query g.
template <bool MayLackKeys, int D, int G, class F>
__device__ inline void join_warps(const warp_results<D, G>& shared, int heads, int head_dim, F finish) {
  for (int i = threadIdx.x; i < heads * head_dim; i += decode_threads) {
    const int g = i / head_dim, c = i % head_dim;
    float largest = -INFINITY;
#pragma unroll
    for (int w = 0; w < decode_warps; ++w) largest = fmaxf(largest, shared.largest[w][g]);
    joined all;
#pragma unroll
    for (int w = 0; w < decode_warps; ++w) {
      const bool none = MayLackKeys && shared.largest[w][g] == -INFINITY;
      all.add(none ? 0 : exp2_of(shared.largest[w][g] - largest), shared.sum[w][g], shared.sums[w][g][c]);
    }
    finish(g, c, largest, all);
  }
}

// Joins the splits of a cluster, each of whose blocks takes a share of the elements. A split without keys has a largest
// score of -infinity and nothing else.
template <int D, int G, class Queries>
__device__ inline void join_cluster(block_results<D, G>& own, const attention_problem& p, int splits,
                                    const Queries& queries, int heads) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  cluster.sync();
  for (int i = blockIdx.x * decode_threads + threadIdx.x; i < heads * p.head_dim; i += splits * decode_threads) {
    const int g = i / p.head_dim, c = i % p.head_dim;
    float largest[most_in_cluster], all_largest = -INFINITY;
#pragma unroll
    for (int s = 0; s < most_in_cluster; ++s) {
      largest[s] = s < splits ? cluster.map_shared_rank(&own, s)->largest[g] : -INFINITY;
      all_largest = fmaxf(all_largest, largest[s]);
    }
    joined all;
#pragma unroll
    for (int s = 0; s < most_in_cluster; ++s) {
      if (largest[s] == -INFINITY) continue;
      const block_results<D, G>& from = *cluster.map_shared_rank(&own, s);
      all.add(exp2_of(largest[s] - all_largest), from.sum[g], from.sums[g][c]);
    }
    write_result(p, queries.token(g), queries.head(g), c, all);
  }
  cluster.sync();  // nobody leaves while its results are read
#endif
}

// A block's last act: joins its warps' results and hands them on, or writes them where it has all of a row's keys.
template <int D, int G, class Queries>
__device__ inline void finish_split(const warp_results<D, G>& shared, block_results<D, G>& own,
                                    const attention_problem& p, const split_results& to, const Queries& queries,
                                    int heads) {
  const auto finish = [&](int g, int c, float largest, const joined& all) {
    if (to.splits == 1) return write_result(p, queries.token(g), queries.head(g), c, all);
    if (to.in_cluster()) {
      own.sums[g][c] = all.value;
      own.largest[g] = largest;
      own.sum[g] = all.total;
      return;
    }
    const int64_t at = to.index(blockIdx.z, p.heads, queries.head(g), blockIdx.x);
    to.sums[at * p.head_dim + c] = all.value;
    if (c == 0) to.stats[at] = make_float2(largest, all.total);
  };
  join_warps<Queries::may_lack_keys>(shared, heads, p.head_dim, finish);
  if (to.in_cluster()) join_cluster(own, p, to.splits, queries, heads);
}

// The same for a block without keys.
template <int D, int G, class Queries>
__device__ inline void finish_empty_split(block_results<D, G>& own, const attention_problem& p, const split_results& to,
                                          const Queries& queries, int heads) {
  if (!to.in_cluster()) return;
  if (threadIdx.x < G) own.largest[threadIdx.x] = -INFINITY;
  join_cluster(own, p, to.splits, queries, heads);
}

#endif

}  // namespace ft::cuda
