// Contract checks of argmax.
#include "ops/argmax.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void argmax(exec& ex, const argmax_args& a) {
  const contract c("argmax");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  c.dense_rows("x", a.x, dtype::f32, {rows, width});
  c.packed("out", a.out, dtype::i32, {rows});
  c.require(width > 0, "rows are empty");
  ex.ops.argmax(ex, a);
}

}  // namespace ft::ops
