// Contract checks of activation and gated_activation.
#include "ops/activation.h"

#include "ops/contract.h"
#include "ops/op_table.h"

namespace ft::ops {

void activation(exec& ex, const activation_args& a) {
  const contract c("activation");
  const int64_t rows = c.dim("x", a.x, 2, 0), width = a.x.shape[1];
  c.dense_rows("x", a.x, c.activations("x", a.x), {rows, width});
  c.dense_rows("out", a.out, c.activations("out", a.out), {rows, width});
  ex.ops.activation(ex, a);
}

void gated_activation(exec& ex, const gated_activation_args& a) {
  const contract c("gated_activation");
  const int64_t rows = c.dim("gate", a.gate, 2, 0), width = a.gate.shape[1];
  const dtype type = c.activations("gate", a.gate);
  c.dense_rows("gate", a.gate, type, {rows, width});
  c.dense_rows("up", a.up, type, {rows, width});
  c.dense_rows("out", a.out, type, {rows, width});
  ex.ops.gated_activation(ex, a);
}

}  // namespace ft::ops
