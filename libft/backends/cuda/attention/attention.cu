// attention, paged_attention and paged_self_attention: which kernel computes what.
//
//   rows of one query, keys in pages      decode.cu: split over the keys; on compute capability 9.0 and newer
//                                         decode_tiles.cu computes the splits, where tiles can be copied as they lie,
//                                         and decode_cascade.cu many rows of which some share keys
//   other rows, 16-bit types all alike    prefill_sm90.cu on compute capability 9.0, likewise; prefill.cu elsewhere:
//                                         tensor cores both
//   all else                              simt.cu: float32 arithmetic on any types
//
// Where all rows have one query and decode_tiles.cu takes them, it turns and stores the step's own keys too.
//
// The host does not know which rows of a mixed batch have one query, so both kernels run, each on its rows.
#include "backends/cuda/attention/head_maps.h"
#include "backends/cuda/attention/problem.h"
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

void set_queries(attention_problem& p, const tensor& query, const tensor& out, const tensor& row_offsets) {
  p.query = query.data;
  p.query_stride = query.stride[0];
  p.query_head_stride = query.stride[1];
  p.out = out.data;
  p.type = query.type;
  p.tokens = static_cast<int>(query.shape[0]);
  p.rows = static_cast<int>(row_offsets.shape[0] - 1);
  p.heads = static_cast<int>(query.shape[1]);
  p.head_dim = static_cast<int>(query.shape[2]);
  p.row_offsets = row_offsets.as<int32_t>();
  if (p.head_dim > widest_head)
    fail(FT_ERROR_UNSUPPORTED, "attention on CUDA takes heads of at most ", widest_head, " elements, not ", p.head_dim);
}

void set_options(attention_problem& p, const attention_options& o) {
  p.scale = o.scale;
  p.softcap = o.softcap;
  p.window = static_cast<int>(o.window);
  p.alibi_slopes = o.alibi_slopes;
  if (!o.relative_bias) return;
  p.relative_bias = o.relative_bias.as<float>();
  p.reach = static_cast<int>(o.relative_bias.shape[1] / 2);
}

attention_problem paged_problem(const paged_attention_args& a) {
  attention_problem p;
  set_queries(p, a.query, a.out, a.row_offsets);
  set_options(p, a.options);
  p.causal = a.causal;
  p.keys = a.pages.keys;
  p.values = a.pages.values;
  p.key_type = a.pages.layout.type;
  p.paged = true;
  p.pages = shape_of(a.pages.layout);
  p.kv_heads = p.pages.kv_heads;
  p.page_table = a.page_table.as<int32_t>();
  p.page_table_stride = a.page_table.stride[0];
  p.max_pages = static_cast<int>(a.page_table.shape[1]);
  p.context_lengths = a.context_lengths.as<int32_t>();
  if (a.shared.offsets) {
    p.group_offsets = a.shared.offsets.as<int32_t>();
    p.shared_lengths = a.shared.lengths.as<int32_t>();
    p.num_groups = static_cast<int>(a.shared.lengths.shape[0]);
    p.widest_group = static_cast<int>(a.shared.widest);
  }
  p.vectors = in_vectors({&a.query, &a.out}) && in_vectors(p.keys) && in_vectors(p.values);
  p.single_too = false;
  return p;
}

// Tensor cores of 16-bit floats with float32 sums came with compute capability 8.0; the widest heads' tiles take 100
// KiB of shared memory, which 8.6 and 8.9 lack.
bool tensor_cores_take(const attention_problem& p) {
  if (p.type == dtype::f32 || p.key_type != p.type) return false;
  return capabilities().tensor_cores &&
         (p.head_dim <= 192 || device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= 100 * 1024);
}

bool warpgroups_take(const attention_problem& p) {
  return capabilities().warpgroup_products && p.scale > 0 && tiles_can_be_copied(p);
}

void attend_prefill(exec& ex, const attention_problem& p) {
  if (warpgroups_take(p))
    prefill_attention_sm90(ex, p);
  else if (tensor_cores_take(p))
    prefill_attention(ex, p);
  else
    simt_attention(ex, p);
}

}  // namespace

void attention(exec& ex, const attention_args& a) {
  if (a.query.size() == 0) return;
  attention_problem p;
  set_queries(p, a.query, a.out, a.row_offsets);
  set_options(p, a.options);
  p.causal = a.causal;
  p.keys = a.key.data;
  p.values = a.value.data;
  p.key_type = a.key.type;
  p.kv_heads = static_cast<int>(a.key.shape[1]);
  p.key_tokens = static_cast<int>(a.key.shape[0]);
  p.key_stride = a.key.stride[0];
  p.key_head_stride = a.key.stride[1];
  p.value_stride = a.value.stride[0];
  p.value_head_stride = a.value.stride[1];
  p.key_row_offsets = (a.key_row_offsets ? a.key_row_offsets : a.row_offsets).as<int32_t>();
  p.vectors = in_vectors({&a.query, &a.key, &a.value, &a.out});
  attend_prefill(ex, p);
}

void paged_attention(exec& ex, const paged_attention_args& a) {
  if (a.query.size() == 0) return;
  const attention_problem p = paged_problem(a);
  if (p.tokens == p.rows || p.rows > 1) decode_attention(ex, p);
  if (p.tokens != p.rows) attend_prefill(ex, p);
}

bool paged_self_attention(exec& ex, const paged_self_attention_args& a) {
  if (a.attention.query.size() == 0) return true;
  const tensor &key = a.keys.key, &value = a.keys.value;
  attention_problem p = paged_problem(a.attention);
  const int64_t pairs = a.rotary_table ? a.rotary_table.shape[1] / 2 : 0;
  if (!stores_own_keys(p) || !in_vectors({&key, &value}) || pairs % vector_width || !in_vectors(a.rotary_table.data))
    return false;
  p.own = {.key = key.data,
           .value = value.data,
           .key_stride = key.stride[0],
           .key_head_stride = key.stride[1],
           .value_stride = value.stride[0],
           .value_head_stride = value.stride[1],
           .slots = a.keys.slots.as<int32_t>(),
           .pairs = {a.rotary_table.as<float>(), static_cast<int>(pairs), a.style == rotary_style::half}};
  decode_attention(ex, p);
  return true;
}

}  // namespace ft::cuda
