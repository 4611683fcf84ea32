// Contract checks of kv_write, rotary_kv_write and kv_copy.
#include "ops/kv_cache.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

namespace {

void check_write(const contract& c, const kv_write_args& a) {
  const kv_layout& layout = a.pages.layout;
  const int64_t tokens = c.dim("key", a.key, 3, 0);
  const dtype type = c.activations("key", a.key);
  c.dense_rows("key", a.key, type, {tokens, layout.num_kv_heads, layout.head_dim});
  c.dense_rows("value", a.value, type, {tokens, layout.num_kv_heads, layout.head_dim});
  c.packed("slots", a.slots, dtype::i32, {tokens});
  c.require(a.pages.keys && a.pages.values, "a page pool is null");
  c.require(layout.page_tokens > 0, "page_tokens is not positive");
  c.require(layout.type == dtype::f32 || layout.type == dtype::f16 || layout.type == dtype::bf16,
            "pages are not float32, float16 or bfloat16");
}

}  // namespace

void kv_write(exec& ex, const kv_write_args& a) {
  check_write(contract("kv_write"), a);
  ex.ops.kv_write(ex, a);
}

void rotary_kv_write(exec& ex, const rotary_kv_write_args& a) {
  const contract c("rotary_kv_write");
  c.require(ex.ops.rotary_kv_write != nullptr, "the backend has no such fusion");
  check_write(c, a.keys);
  const int64_t tokens = a.keys.key.shape[0], head_dim = a.keys.key.shape[2], width = c.dim("table", a.table, 2, 1);
  c.dense_rows("query", a.query, a.keys.key.type, {tokens, c.dim("query", a.query, 3, 1), head_dim});
  c.packed("table", a.table, dtype::f32, {tokens, width});
  c.require(width > 0 && width % 2 == 0 && width <= head_dim, "the table's width is odd or exceeds head_dim");
  ex.ops.rotary_kv_write(ex, a);
}

void kv_copy(exec& ex, const kv_copy_args& a) {
  const contract c("kv_copy");
  const int64_t n = c.dim("from", a.from, 1, 0);
  c.packed("from", a.from, dtype::i32, {n});
  c.packed("to", a.to, dtype::i32, {n});
  c.packed("tokens", a.tokens, dtype::i32, {n});
  c.require(a.pages.keys && a.pages.values, "a page pool is null");
  ex.ops.kv_copy(ex, a);
}

}  // namespace ft::ops
