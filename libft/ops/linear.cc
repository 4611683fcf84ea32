// Contract checks of linear.
#include "ops/linear.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void linear(exec& ex, const linear_args& a) {
  const contract c("linear");
  c.require(a.weight != nullptr, "weight is null");
  c.require(!a.bias || a.bias->size == a.weight->out_features, "bias is not one value for each output");
  const int64_t rows = c.dim("x", a.x, 2, 0);
  const dtype type = c.activations("x", a.x);
  c.dense_rows("x", a.x, type, {rows, a.weight->in_features});
  c.dense_rows("out", a.out, a.out.type == dtype::f32 ? dtype::f32 : type, {rows, a.weight->out_features});
  if (a.residual) c.dense_rows("residual", a.residual, a.out.type, {rows, a.weight->out_features});
  ex.ops.linear(ex, a);
}

}  // namespace ft::ops
