// Contract checks of gather_rows.
#include "ops/rows.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void gather_rows(exec& ex, const gather_rows_args& a) {
  const contract c("gather_rows");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  const int64_t n = c.dim("index", a.index, 1, 0);
  c.dense_rows("x", a.x, c.activations("x", a.x), {rows, width});
  c.packed("index", a.index, dtype::i32, {n});
  c.dense_rows("out", a.out, c.activations("out", a.out), {n, width});
  ex.ops.gather_rows(ex, a);
}

}  // namespace ft::ops
