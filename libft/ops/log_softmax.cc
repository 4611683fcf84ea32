// Contract checks of log_softmax.
#include "ops/log_softmax.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void log_softmax(exec& ex, const log_softmax_args& a) {
  const contract c("log_softmax");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  c.dense_rows("x", a.x, dtype::f32, {rows, width});
  c.dense_rows("out", a.out, dtype::f32, {rows, width});
  c.require(width > 0, "rows are empty");
  ex.ops.log_softmax(ex, a);
}

}  // namespace ft::ops
