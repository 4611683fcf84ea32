// What rotary and kv_write demand of their arguments, for the operations that contain them too.
#pragma once

#include "ops/contract.h"
#include "ops/kv_cache.h"

namespace ft::ops {

inline void check_pages(const contract& c, const kv_pages& pages) {
  c.require(pages.keys && pages.values, "a page pool is null");
  c.require(pages.layout.page_tokens > 0, "page_tokens is not positive");
  c.require(pages.layout.type == dtype::f32 || pages.layout.type == dtype::f16 || pages.layout.type == dtype::bf16,
            "pages are not float32, float16 or bfloat16");
}

inline void check_write(const contract& c, const kv_write_args& a) {
  const kv_layout& layout = a.pages.layout;
  const int64_t tokens = c.dim("key", a.key, 3, 0);
  const dtype type = c.activations("key", a.key);
  c.dense_rows("key", a.key, type, {tokens, layout.num_kv_heads, layout.head_dim});
  c.dense_rows("value", a.value, type, {tokens, layout.num_kv_heads, layout.head_dim});
  c.packed("slots", a.slots, dtype::i32, {tokens});
  check_pages(c, a.pages);
}

// For heads [tokens, heads, head_dim].
inline void check_table(const contract& c, const tensor& table, const tensor& heads) {
  const int64_t width = c.dim("table", table, 2, 1);
  c.packed("table", table, dtype::f32, {heads.shape[0], width});
  c.require(width % 2 == 0 && width <= heads.shape[2], "the table's width is odd or exceeds head_dim");
}

}  // namespace ft::ops
