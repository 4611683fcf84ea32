// Contract checks of rotary_table and rotary.
#include "ops/rotary.h"

#include "ops/kv_contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void rotary_table(exec& ex, const rotary_table_args& a) {
  const contract c("rotary_table");
  const int64_t tokens = c.dim("positions", a.positions, 1, 0);
  const int64_t width = c.dim("table", a.table, 2, 1);
  c.packed("positions", a.positions, dtype::i32, {tokens});
  c.packed("table", a.table, dtype::f32, {tokens, width});
  c.require(width % 2 == 0, "the table's width is odd");
  c.require(a.inverse_frequency != nullptr, "inverse_frequency is null");
  ex.ops.rotary_table(ex, a);
}

void rotary(exec& ex, const rotary_args& a) {
  const contract c("rotary");
  const int64_t tokens = c.dim("x", a.x, 3, 0), heads = a.x.shape[1], head_dim = a.x.shape[2];
  c.dense_rows("x", a.x, c.activations("x", a.x), {tokens, heads, head_dim});
  check_table(c, a.table, a.x);
  ex.ops.rotary(ex, a);
}

}  // namespace ft::ops
