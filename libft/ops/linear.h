// linear: out = activation(x · weightᵀ + bias) + residual
//
//   x         [rows, in_features]   rows may be strided
//   weight    [out_features, in_features], packed by backend::pack
//   bias      [out_features]        null, or packed by backend::pack_bias
//   residual  [rows, out_features]  null or as `out`, which it may be itself
//   out       [rows, out_features]  of x's dtype or f32, rows may be strided; may not overlap x
//
// On the CPU a row's result is the same to the bit whatever the number of rows.
#pragma once

#include "ops/activation.h"
#include "ops/exec.h"

namespace ft {

struct linear_args {
  tensor out;
  tensor x;
  const packed_weight* weight = nullptr;
  const packed_bias* bias = nullptr;
  activation_kind activation = activation_kind::none;
  tensor residual;
};

namespace ops {
void linear(exec&, const linear_args&);
}

}  // namespace ft
