// Contract checks of sample.
#include "ops/sample.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void sample(exec& ex, const sample_args& a) {
  const contract c("sample");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  c.dense_rows("x", a.x, dtype::f32, {rows, width});
  c.packed("uniform", a.uniform, dtype::f64, {rows});
  c.packed("temperature", a.temperature, dtype::f32, {rows});
  c.packed("token", a.token, dtype::i32, {rows});
  c.packed("log_prob", a.log_prob, dtype::f32, {rows});
  c.packed("logit", a.logit, dtype::f32, {rows});
  if (a.least) {
    c.packed("least", a.least, dtype::f32, {rows});
    c.packed("last", a.last, dtype::i32, {rows});
  }
  c.require(width > 0, "rows are empty");
  ex.ops.sample(ex, a);
}

}  // namespace ft::ops
