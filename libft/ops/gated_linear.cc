// Contract checks of gated_linear, and its parts one after another.
#include "ops/gated_linear.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void gated_linear(exec& ex, const gated_linear_args& a) {
  const contract c("gated_linear");
  c.require(a.weight != nullptr, "weight is null");
  c.require(a.weight->out_features % 2 == 0, "weight has an odd number of rows");
  c.require(!a.bias || a.bias->size == a.weight->out_features, "bias is not one value for each output");
  const int64_t rows = c.dim("x", a.x, 2, 0);
  const dtype type = c.activations("x", a.x);
  c.dense_rows("x", a.x, type, {rows, a.weight->in_features});
  c.dense_rows("out", a.out, type, {rows, a.weight->out_features / 2});
  if (ex.ops.gated_linear && ex.ops.gated_linear(ex, a)) return;
  const int64_t width = a.out.dim(1);
  arena::scope scope(ex.scratch);
  const tensor both = ex.scratch.make(a.out.type, {a.out.dim(0), 2 * width});
  ex.ops.linear(ex, {.out = both, .x = a.x, .weight = a.weight, .bias = a.bias});
  ex.ops.gated_activation(
      ex, {.out = a.out, .gate = both.slice(1, 0, width), .up = both.slice(1, width, 2 * width), .kind = a.activation});
}

}  // namespace ft::ops
