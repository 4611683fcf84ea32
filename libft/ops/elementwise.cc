// Contract checks of add and scale.
#include "ops/elementwise.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void add(exec& ex, const add_args& a) {
  const contract c("add");
  const int64_t rows = c.dim("a", a.a, 2, 0), width = a.a.shape[1];
  const dtype type = c.activations("a", a.a);
  c.dense_rows("a", a.a, type, {rows, width});
  c.dense_rows("b", a.b, type, {rows, width});
  c.dense_rows("out", a.out, type, {rows, width});
  ex.ops.add(ex, a);
}

void scale(exec& ex, const scale_args& a) {
  const contract c("scale");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  c.dense_rows("x", a.x, c.activations("x", a.x), {rows, width});
  c.dense_rows("out", a.out, c.activations("out", a.out), {rows, width});
  c.require(a.softcap >= 0, "softcap is negative");
  ex.ops.scale(ex, a);
}

}  // namespace ft::ops
