#include "backends/cuda/attention/head_maps.h"

#include "backends/cuda/kernel/tensor_map.h"

namespace ft::cuda {
namespace {

// An axis of one needs a stride too.
CUtensorMap map_of_heads(const void* data, dtype type, const int64_t (&size)[3], const int64_t (&stride)[2], int box_1,
                         int box_2) {
  constexpr int64_t any = 8;
  return map_of({.data = data,
                 .type = type,
                 .size = {size[0], size[1], size[2]},
                 .stride = {size[1] > 1 ? stride[0] : any, size[2] > 1 ? stride[1] : any},
                 .box = {panel_columns_16, box_1, box_2}});
}

}  // namespace

bool tiles_can_be_copied(const attention_problem& p) {
  return p.vectors && p.type != dtype::f32 && p.key_type == p.type &&
         (!p.paged || p.pages.page_tokens % page_box_tokens == 0);
}

CUtensorMap map_of_queries(const attention_problem& p, int tokens) {
  return map_of_heads(p.query, p.type, {p.head_dim, p.heads, p.tokens}, {p.query_head_stride, p.query_stride}, 1,
                      tokens);
}

CUtensorMap map_of_keys(const attention_problem& p, int tokens) {
  return map_of_heads(p.keys, p.type, {p.head_dim, p.kv_heads, p.key_tokens}, {p.key_head_stride, p.key_stride}, 1,
                      tokens);
}

CUtensorMap map_of_values(const attention_problem& p, int tokens) {
  return map_of_heads(p.values, p.type, {p.head_dim, p.kv_heads, p.key_tokens}, {p.value_head_stride, p.value_stride},
                      1, tokens);
}

// How many pages a pool has is not said; tables name only pages that there are.
CUtensorMap map_of_pages(const attention_problem& p, const void* pool) {
  return map_of_heads(pool, p.type, {p.head_dim, p.pages.page_tokens, 0x7fffffff},
                      {p.head_dim, int64_t{p.pages.page_tokens} * p.head_dim}, page_box_tokens, 1);
}

}  // namespace ft::cuda
