// Contract checks of kv_write, rotary_kv_write and kv_copy.
#include "ops/kv_cache.h"

#include "ops/kv_contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void kv_write(exec& ex, const kv_write_args& a) {
  check_write(contract("kv_write"), a);
  ex.ops.kv_write(ex, a);
}

void rotary_kv_write(exec& ex, const rotary_kv_write_args& a) {
  const contract c("rotary_kv_write");
  c.require(ex.ops.rotary_kv_write != nullptr, "the backend has no such fusion");
  check_write(c, a.keys);
  const tensor& key = a.keys.key;
  c.dense_rows("query", a.query, key.type, {key.shape[0], c.dim("query", a.query, 3, 1), key.shape[2]});
  check_table(c, a.table, key);
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
