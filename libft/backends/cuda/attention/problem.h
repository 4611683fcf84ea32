// An attention call as its kernels see it. Keys and values are the call's own tensors or lie in pages; either way a
// kernel asks where a row's j-th key begins. Shapes are known to the host; how the tokens are dealt to rows is not:
// each block finds its row from row_offsets on the device. Offsets, lengths and page tables come to the device before a
// step's first kernel, so that a kernel may read them before it awaits the one before it.
#pragma once

#include "backends/cuda/attention/kv_page.h"
#include "backends/cuda/kernel/rotary_pairs.h"
#include "backends/cuda/kernel/vector.h"
#include "ops/attention.h"

namespace ft::cuda {

inline constexpr int widest_head = 256;

// The step's own keys and values, of one token a row, that have yet to be put into their pages.
struct step_keys {
  const void *key = nullptr, *value = nullptr;  // null: they are there
  int64_t key_stride = 0, key_head_stride = 0, value_stride = 0, value_head_stride = 0;
  const int32_t* slots = nullptr;
  rotary_pairs pairs{};  // by which these keys and the queries are turned first; without a table they are as they are
};

struct attention_problem {
  const void* query = nullptr;
  int64_t query_stride = 0, query_head_stride = 0;
  void* out = nullptr;  // [tokens, heads, head_dim], dense
  dtype type = dtype::f32;
  int tokens = 0, rows = 0, heads = 0, kv_heads = 0, head_dim = 0;
  const int32_t* row_offsets = nullptr;
  bool causal = false;

  const void *keys = nullptr, *values = nullptr;
  dtype key_type = dtype::f32;
  bool paged = false;
  int64_t key_stride = 0, key_head_stride = 0, value_stride = 0, value_head_stride = 0;  // not paged
  const int32_t* key_row_offsets = nullptr;                                              // not paged
  int key_tokens = 0;                                                                    // not paged: of all rows
  const int32_t *page_table = nullptr, *context_lengths = nullptr;                       // paged
  int64_t page_table_stride = 0;
  int max_pages = 0;
  page_shape pages{};
  const int32_t *group_offsets = nullptr, *shared_lengths = nullptr;  // of rows that share keys (ops/attention.h)
  int num_groups = 0, widest_group = 1;
  step_keys own;

  // A score is softcap(scale * dot) + bias, all of it times log2(e): exponentials are powers of two.
  float scale = 1, softcap = 0;
  int window = 0;
  const float *alibi_slopes = nullptr, *relative_bias = nullptr;
  int reach = 0;

  bool vectors = false;    // queries, keys and values can be read, and results written, 16 bytes at a time
  bool single_too = true;  // whether the prefill kernels also take rows of one query
};

// Rows of any lengths, on tensor cores (16-bit types) and without them (any types).
void prefill_attention(exec&, const attention_problem&);
void prefill_attention_sm90(exec&, const attention_problem&);
void simt_attention(exec&, const attention_problem&);
// The rows of exactly one query, their keys in pages.
void decode_attention(exec&, const attention_problem&);
// Whether it may be given the step's own keys.
bool stores_own_keys(const attention_problem&);

#ifdef __CUDACC__

// One element, where a kernel serves all types.
__device__ inline float element(const void* data, dtype type, int64_t i) {
  if (type == dtype::f16) return widen(static_cast<const __half*>(data)[i]);
  if (type == dtype::bf16) return widen(static_cast<const __nv_bfloat16*>(data)[i]);
  return static_cast<const float*>(data)[i];
}

__device__ inline void set_element(void* data, dtype type, int64_t i, float x) {
  if (type == dtype::f16)
    static_cast<__half*>(data)[i] = narrow<__half>(x);
  else if (type == dtype::bf16)
    static_cast<__nv_bfloat16*>(data)[i] = narrow<__nv_bfloat16>(x);
  else
    static_cast<float*>(data)[i] = x;
}

constexpr float log2_e = 1.4426950408889634f;

// tanh by one exponential: its absolute error, that of float32 near 1, is what a score's sum has anyway.
__device__ inline float tanh_by_exp(float x) { return 1 - __fdividef(2, 1 + __expf(2 * x)); }

// How many keys a row has, and which of them its queries see.
struct seen_keys {
  // Keys [first, last) are seen from `position`.
  __device__ int last_seen(const attention_problem& p, int position) const {
    return p.causal ? min(count, position + 1) : count;
  }
  __device__ int first_seen(const attention_problem& p, int position) const {
    return p.window > 0 ? max(0, position - p.window + 1) : 0;
  }

  int count = 0, first_position = 0;
};

// Where one head's keys and values of one row are, too.
template <bool paged>
struct row_keys : seen_keys {
  __device__ row_keys(const attention_problem& p, int row, int queries, int kv_head) : head(kv_head) {
    if constexpr (paged) {
      count = p.context_lengths[row];
      first_position = count - queries;
      table = p.page_table + row * p.page_table_stride;
    } else {
      const int begin = p.key_row_offsets[row];
      count = p.key_row_offsets[row + 1] - begin;
      key_begin = begin * p.key_stride + kv_head * p.key_head_stride;
      value_begin = begin * p.value_stride + kv_head * p.value_head_stride;
    }
  }

  // The elements at which key j and value j begin.
  __device__ void locate(const attention_problem& p, int j, int64_t& key, int64_t& value) const {
    if constexpr (paged) {
      const int page = j / p.pages.page_tokens;
      key = value = p.pages.begin(table[page], head, j - page * p.pages.page_tokens);
    } else {
      key = key_begin + j * p.key_stride;
      value = value_begin + j * p.value_stride;
    }
  }

  int head;
  const int32_t* table = nullptr;
  int64_t key_begin = 0, value_begin = 0;
};

__device__ inline bool has_bias(const attention_problem& p) { return p.alibi_slopes || p.relative_bias; }

// What is added to a score of a key `distance` tokens after its query, times log2(e).
__device__ inline float bias_of(const attention_problem& p, int head, int distance) {
  if (p.alibi_slopes) return log2_e * p.alibi_slopes[head] * static_cast<float>(distance);
  return log2_e * p.relative_bias[head * (2 * p.reach + 1) + min(max(distance, -p.reach), p.reach) + p.reach];
}

// scale and softcap of a dot product, times log2(e).
__device__ inline float score_of(const attention_problem& p, float dot) {
  if (p.softcap > 0) return log2_e * p.softcap * tanh_by_exp(dot * p.scale / p.softcap);
  return dot * (p.scale * log2_e);
}

// Prompts are cut into tiles of `size` queries. Row r's first tile is floor(row_offsets[r] / size) + r: rows never
// share a tile, every row has room for all of its own, and the number of tiles follows from tokens and rows alone.
// Kernels take the last ones first, since with causal attention they are the longest.
struct query_tile {
  int row, begin, queries, first;  // first: the tile's first query within the row; beyond `queries`: nothing to do

  // All threads of the block call.
  __device__ query_tile(const attention_problem& p, int size, int tile) {
    int rows_before = 0;
    for (int r = 0; r < p.rows; r += blockDim.x) {
      const int mine = r + threadIdx.x;
      rows_before += __syncthreads_count(mine < p.rows && p.row_offsets[min(mine, p.rows)] / size + mine <= tile);
    }
    row = rows_before - 1;
    begin = p.row_offsets[row];
    queries = p.row_offsets[row + 1] - begin;
    first = (tile - (begin / size + row)) * size;
  }

  __device__ bool empty(const attention_problem& p) const {
    return first >= queries || (queries == 1 && !p.single_too);
  }
};

#endif

}  // namespace ft::cuda
