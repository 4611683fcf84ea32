// Contract checks of sampling_threshold.
#include "ops/sampling_threshold.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void sampling_threshold(exec& ex, const sampling_threshold_args& a) {
  const contract c("sampling_threshold");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1], k = c.dim("value", a.value, 2, 1);
  c.dense_rows("x", a.x, dtype::f32, {rows, width});
  c.packed("value", a.value, dtype::f32, {rows, k});
  c.packed("index", a.index, dtype::i32, {rows, k});
  c.packed("log_sum", a.log_sum, dtype::f32, {rows});
  c.packed("temperature", a.temperature, dtype::f32, {rows});
  c.packed("by", a.by, dtype::f64, {rows, 3});
  c.packed("least", a.least, dtype::f32, {rows});
  c.packed("last", a.last, dtype::i32, {rows});
  c.require(width > 0, "rows are empty");
  c.require(k >= 1 && k <= most_top_k, "k is not between 1 and 256");
  ex.ops.sampling_threshold(ex, a);
}

}  // namespace ft::ops
