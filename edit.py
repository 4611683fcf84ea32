p='libft/backends/cuda/attention/decode.cu'; s=open(p).read()
def rep(a,b):
    global s
    assert s.count(a)>=1, a
    s=s.replace(a,b)
rep('''// long context fills the chip; a second kernel joins the splits (FlashDecoding's scheme). Cuts depend on the length of
// the page table alone, not on the batch.''','''// long context fills the chip (FlashDecoding's scheme). The blocks of up to eight splits form a cluster, which joins them
// through its shared memory; more of them, and GPUs without clusters, leave that to a second kernel. Cuts depend on the
// length of the page table alone, not on the batch, and both ways of joining add in the same order.''')
rep('''constexpr int most_splits = 128, widest_group = 8;''','''constexpr int most_splits = 128, most_in_cluster = 8, widest_group = 8;''')
rep('''struct split_results {
  float* sums;    // [rows, heads, splits, head_dim], relative to `largest`
  float2* stats;  // [rows, heads, splits]: the largest score, the sum of the exponentials
  int splits, keys_a_split;
''','''struct split_results {
  float* sums;    // [rows, heads, splits, head_dim], relative to `largest`; null where one block or cluster has them all
  float2* stats;  // [rows, heads, splits]: the largest score, the sum of the exponentials
  int splits, keys_a_split;
''')
i=s.index('template <int Lanes, int G>\nstruct warp_results'); j=s.index('template <class T, int Lanes, int G>\n__global__')
s=s[:i]+'''template <int Lanes, int G>
struct warp_results {
  alignas(16) float sums[warps][G][Lanes * slice];
  float largest[warps][G], sum[warps][G];
};

template <int Lanes, int G>
struct block_results {
  float sums[G][Lanes * slice];
  float largest[G], sum[G];
};

// One element of a head's result, and the sum that divides it, of several splits in their order.
struct joined {
  float value = 0, total = 0;

  __device__ void add(float weight, float sum, float element) {
    total = fmaf(weight, sum, total);
    value = fmaf(weight, element, value);
  }
};

__device__ void write_result(const attention_problem& p, int token, int head, int c, const joined& j) {
  set_element(p.out, p.type, (static_cast<int64_t>(token) * p.heads + head) * p.head_dim + c, j.value / j.total);
}

// Joins the warps' results: finish(g, c, largest, joined) for every element c of the head of query g.
template <int Lanes, int G, class F>
__device__ void join_warps(const warp_results<Lanes, G>& shared, int heads, int head_dim, F finish) {
  for (int i = threadIdx.x; i < heads * head_dim; i += threads) {
    const int g = i / head_dim, c = i % head_dim;
    float largest = -INFINITY;
#pragma unroll
    for (int w = 0; w < warps; ++w) largest = fmaxf(largest, shared.largest[w][g]);
    joined all;
#pragma unroll
    for (int w = 0; w < warps; ++w)
      all.add(exp2_of(shared.largest[w][g] - largest), shared.sum[w][g], shared.sums[w][g][c]);
    finish(g, c, largest, all);
  }
}

// Joins the splits of a cluster, each of whose blocks takes a share of the elements. A split without keys has a largest
// score of -infinity and nothing else.
template <int Lanes, int G>
__device__ void join_cluster(block_results<Lanes, G>& own, const attention_problem& p, int splits, int token,
                             int first_head, int heads) {
#if __CUDA_ARCH__ >= 900
  const auto cluster = cooperative_groups::this_cluster();
  cluster.sync();
  for (int i = blockIdx.x * threads + threadIdx.x; i < heads * p.head_dim; i += splits * threads) {
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
      const block_results<Lanes, G>& from = *cluster.map_shared_rank(&own, s);
      all.add(exp2_of(largest[s] - all_largest), from.sum[g], from.sums[g][c]);
    }
    write_result(p, token, first_head + g, c, all);
  }
  cluster.sync();  // nobody leaves while its results are read
#endif
}

'''+s[j:]
rep('''  __shared__ warp_results<Lanes, G> shared;
  const int row''','''  __shared__ warp_results<Lanes, G> shared;
  __shared__ block_results<Lanes, G> own;
  const bool in_cluster = to.splits > 1 && !to.sums;
  const int row''')
rep('''  if (begin >= end) return;

  const int lane_group''','''  if (begin >= end) {
    if (!in_cluster) return;
    if (threadIdx.x < G) own.largest[threadIdx.x] = -INFINITY;
    return join_cluster(own, p, to.splits, token, first_head, heads);
  }

  const int lane_group''')
rep('''  __syncthreads();
  join_warps<Lanes, G>(shared, p, to, row, split, first_head, heads);
}
''','''  __syncthreads();
  join_warps(shared, heads, p.head_dim, [&](int g, int c, float largest, const joined& all) {
    if (to.splits == 1) return write_result(p, token, first_head + g, c, all);
    if (in_cluster) {
      own.sums[g][c] = all.value;
      own.largest[g] = largest;
      own.sum[g] = all.total;
      return;
    }
    const int64_t at = to.index(row, p.heads, first_head + g, split);
    to.sums[at * p.head_dim + c] = all.value;
    if (c == 0) to.stats[at] = make_float2(largest, all.total);
  });
  if (in_cluster) join_cluster(own, p, to.splits, token, first_head, heads);
}
''')
i=s.index('// A block a row and head, a thread'); j=s.index('template <class T, int Lanes>\nvoid launch_splits')
s=s[:i]+'''// A block a row and head, a thread an element of the head.
__global__ void join_splits(const attention_problem p, const split_results from) {
  __shared__ float weights[most_splits], sums[most_splits];
  const int head = blockIdx.x, row = blockIdx.y, token = p.row_offsets[row];
  if (p.row_offsets[row + 1] - token != 1) return;
  const row_keys<true> keys(p, row, 1, 0);
  const int position = keys.first_position;
  const int first = keys.first_seen(p, position) / from.keys_a_split;
  const int count = (keys.last_seen(p, position) + from.keys_a_split - 1) / from.keys_a_split - first;
  const int64_t at = from.index(row, p.heads, head, first);

  if (threadIdx.x < 32) {
    float largest = -INFINITY;
    for (int s = threadIdx.x; s < count; s += 32) largest = fmaxf(largest, from.stats[at + s].x);
    largest = warp_reduce(largest, larger{});
    for (int s = threadIdx.x; s < count; s += 32) {
      const float2 stats = from.stats[at + s];
      weights[s] = exp2_of(stats.x - largest);
      sums[s] = stats.y;
    }
  }
  __syncthreads();
  if (threadIdx.x >= p.head_dim) return;
  joined all;
#pragma unroll 8
  for (int s = 0; s < count; ++s) all.add(weights[s], sums[s], from.sums[(at + s) * p.head_dim + threadIdx.x]);
  write_result(p, token, head, threadIdx.x, all);
}

template <class T, int Lanes, int G>
void launch_splits(exec& ex, const attention_problem& p, const split_results& to) {
  const auto chunks = static_cast<unsigned>(ceil_div(p.heads / p.kv_heads, G));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(to.splits, p.kv_heads * chunks, p.rows);
  config.blockDim = threads;
  config.stream = stream_of(ex);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = to.splits;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  config.attrs = &cluster;
  config.numAttrs = to.splits > 1 && !to.sums ? 1 : 0;
  check(cudaLaunchKernelEx(&config, attend_split<T, Lanes, G>, p, to), "paged_attention");
}

'''+s[j:]
i=s.index('void decode_attention(exec& ex'); 
s=s[:i].replace('''
}  // namespace

''','''
bool has_clusters() {
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "paged_attention");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "paged_attention");
  return major >= 9;
}

}  // namespace

''')+'''void decode_attention(exec& ex, const attention_problem& p) {
  const int64_t longest = int64_t{p.max_pages} * p.pages.page_tokens;
  split_results to{};
  to.keys_a_split = shortest_split(p.head_dim);
  while (ceil_div(longest, to.keys_a_split) > most_splits) to.keys_a_split *= 2;
  to.splits = static_cast<int>(std::max<int64_t>(1, ceil_div(longest, to.keys_a_split)));
  arena::scope scope(ex.scratch);
  if (to.splits > (has_clusters() ? most_in_cluster : 1)) {
    const int64_t results = int64_t{p.rows} * p.heads * to.splits;
    to.sums = ex.scratch.make<float>(results * p.head_dim);
    to.stats = ex.scratch.make<float2>(results);
  }
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
  join_splits<<<dim3(p.heads, p.rows), static_cast<unsigned>(ceil_div(p.head_dim, 32) * 32), 0, stream_of(ex)>>>(p, to);
  check_launch("paged_attention");
}

}  // namespace ft::cuda
'''
rep('#include <algorithm>\n','#include <cooperative_groups.h>\n\n#include <algorithm>\n')
open(p,'w').write(s)
