// Contract checks of pool.
#include "ops/pool.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void pool(exec& ex, const pool_args& a) {
  const contract c("pool");
  const int64_t tokens = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  const int64_t rows = c.dim("out", a.out, 2, 0);
  c.dense_rows("x", a.x, c.activations("x", a.x), {tokens, width});
  c.dense_rows("out", a.out, dtype::f32, {rows, width});
  c.packed("row_offsets", a.row_offsets, dtype::i32, {rows + 1});
  ex.ops.pool(ex, a);
}

}  // namespace ft::ops
