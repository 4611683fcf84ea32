// Attention without tensor cores, in float32 arithmetic on any types of queries and keys: the path of float32 models,
// of pages in another type than the activations, and of GPUs that lack what prefill.cu needs.
//
// A block has 16 queries of one head, four a warp, and goes through their keys 32 at a time, a key a lane, with the
// online softmax of FlashAttention (arXiv:2205.14135). Keys, then values, stand in shared memory in float32.
#include "backends/cuda/attention/problem.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int queries_a_warp = 4, warps = 4, queries_a_block = queries_a_warp * warps;
constexpr int keys_a_step = 32;
constexpr int threads = 32 * warps;

// Rows of padded heads: D elements and four more, so that lanes reading a row each, 16 bytes at a time, meet different
// banks.
template <int D>
struct tile_layout {
  static constexpr int stride = D + 4;
  float queries[queries_a_block * D];
  float keys[keys_a_step * stride];  // then the values
  float weights[warps][keys_a_step][queries_a_warp];
};

// The keys (or values) of one step: zeros behind the head's end and behind the row's last key, where pages may hold
// anything.
template <int D, bool paged>
__device__ void load_step(float* to, const attention_problem& p, const row_keys<paged>& keys, int first, bool value) {
  const int lane = threadIdx.x % 32;
  for (int j = threadIdx.x / 32; j < keys_a_step; j += warps) {
    int64_t key_at = 0, value_at = 0;
    const bool inside = first + j < keys.count;
    if (inside) keys.locate(p, first + j, key_at, value_at);
    for (int i = lane; i < D; i += 32)
      to[j * tile_layout<D>::stride + i] =
          inside && i < p.head_dim ? element(value ? p.values : p.keys, p.key_type, (value ? value_at : key_at) + i)
                                   : 0;
  }
}

template <int D, bool paged>
__global__ void __launch_bounds__(threads) attend_tiles(const attention_problem p) {
  extern __shared__ float4 shared_vectors[];
  auto& shared = *reinterpret_cast<tile_layout<D>*>(shared_vectors);
  constexpr int stride = tile_layout<D>::stride;
  await_previous_kernel();
  const query_tile tile(p, queries_a_block, gridDim.x - 1 - blockIdx.x);
  if (tile.empty(p)) return;
  const int head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const row_keys<paged> keys(p, tile.row, tile.queries, head / (p.heads / p.kv_heads));

  for (int i = threadIdx.x; i < queries_a_block * D; i += threads) {
    const int q = tile.first + i / D, c = i % D;
    shared.queries[i] =
        q < tile.queries && c < p.head_dim
            ? element(p.query, p.type, (tile.begin + q) * p.query_stride + head * p.query_head_stride + c)
            : 0;
  }

  const int mine = tile.first + warp * queries_a_warp;  // this warp's first query in the row
  const int last_position = keys.first_position + min(tile.first + queries_a_block, tile.queries) - 1;
  const int key_end = keys.last_seen(p, last_position);
  const int key_begin = keys.first_seen(p, keys.first_position + tile.first) / keys_a_step * keys_a_step;

  float acc[queries_a_warp][D / 32] = {}, largest[queries_a_warp], sum[queries_a_warp] = {};
#pragma unroll
  for (int q = 0; q < queries_a_warp; ++q) largest[q] = -INFINITY;

  for (int first = key_begin; first < key_end; first += keys_a_step) {
    __syncthreads();
    load_step<D>(shared.keys, p, keys, first, false);
    __syncthreads();
    float dot[queries_a_warp] = {};
#pragma unroll 4
    for (int c = 0; c < D; c += 4) {
      const float4 k = *reinterpret_cast<const float4*>(&shared.keys[lane * stride + c]);
#pragma unroll
      for (int q = 0; q < queries_a_warp; ++q) {
        const float4 x = *reinterpret_cast<const float4*>(&shared.queries[(warp * queries_a_warp + q) * D + c]);
        dot[q] += x.x * k.x + x.y * k.y + x.z * k.z + x.w * k.w;
      }
    }
    const int j = first + lane;
#pragma unroll
    for (int q = 0; q < queries_a_warp; ++q) {
      const int position = keys.first_position + mine + q;
      float score = score_of(p, dot[q]);
      if (has_bias(p)) score += bias_of(p, head, j - position);
      if (j >= keys.last_seen(p, position) || j < keys.first_seen(p, position)) score = -INFINITY;
      const float before = largest[q];
      largest[q] = fmaxf(before, warp_reduce(score, larger{}));
      const float base = largest[q] == -INFINITY ? 0 : largest[q];  // nothing seen yet
      const float weight = exp2_of(score - base), shrink = exp2_of(before - base);
      sum[q] = sum[q] * shrink + weight;
#pragma unroll
      for (int i = 0; i < D / 32; ++i) acc[q][i] *= shrink;
      shared.weights[warp][lane][q] = weight;
    }
    __syncthreads();
    load_step<D>(shared.keys, p, keys, first, true);
    __syncthreads();
#pragma unroll 4
    for (int k = 0; k < keys_a_step; ++k) {
      const float4 w = *reinterpret_cast<const float4*>(shared.weights[warp][k]);
#pragma unroll
      for (int i = 0; i < D / 32; ++i) {
        const float v = shared.keys[k * stride + 32 * i + lane];
        acc[0][i] += w.x * v;
        acc[1][i] += w.y * v;
        acc[2][i] += w.z * v;
        acc[3][i] += w.w * v;
      }
    }
  }

#pragma unroll
  for (int q = 0; q < queries_a_warp; ++q) {
    const float total = warp_reduce(sum[q], add_up{});  // each lane has summed its own keys
    if (mine + q >= tile.queries) continue;
    const int64_t to = (static_cast<int64_t>(tile.begin + mine + q) * p.heads + head) * p.head_dim;
#pragma unroll
    for (int i = 0; i < D / 32; ++i)
      if (32 * i + lane < p.head_dim) set_element(p.out, p.type, to + 32 * i + lane, acc[q][i] / total);
  }
}

template <int D, bool paged>
void launch(exec& ex, const attention_problem& p) {
  const dim3 grid(grid_size(p.tokens / queries_a_block + p.rows, "attention"), p.heads);
  launch_kernel(ex, "attention", {grid, threads, sizeof(tile_layout<D>)}, attend_tiles<D, paged>, p);
}

template <int D>
void launch(exec& ex, const attention_problem& p) {
  if (p.paged)
    launch<D, true>(ex, p);
  else
    launch<D, false>(ex, p);
}

}  // namespace

void simt_attention(exec& ex, const attention_problem& p) {
  if (p.head_dim <= 64)
    launch<64>(ex, p);
  else if (p.head_dim <= 128)
    launch<128>(ex, p);
  else
    launch<256>(ex, p);
}

}  // namespace ft::cuda
