// gated_linear: out = f(x · gateᵀ + gate's bias) * (x · upᵀ + up's bias), the first half of a gated feed-forward
// network (GLU variants, arXiv:2002.05202)
//
//   x             [rows, in_features]       rows may be strided
//   weight        [2 * width, in_features]  packed by backend::pack, gate's rows before up's
//   bias          [2 * width]               null, or packed by backend::pack_bias
//   out           [rows, width]             of x's dtype, rows may be strided; may not overlap x
#pragma once

#include "ops/activation.h"
#include "ops/exec.h"

namespace ft {

struct gated_linear_args {
  tensor out;
  tensor x;
  const packed_weight* weight = nullptr;
  const packed_bias* bias = nullptr;
  activation_kind activation = activation_kind::none;
};

namespace ops {
// In one pass where the backend has it for such arguments; else by linear into scratch memory and gated_activation.
void gated_linear(exec&, const gated_linear_args&);
}  // namespace ops

}  // namespace ft
