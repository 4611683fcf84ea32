// activation: out = f(x), elementwise; gated_activation: out = f(gate) * up
//
//   x, out    [rows, width]  out may be x, and may have another dtype
//   gate, up  [rows, width]  rows may be strided (the two halves of one matrix)
#pragma once

#include "ops/exec.h"

namespace ft {

enum class activation_kind : uint8_t {
  none,
  relu,
  gelu,       // x Φ(x), by erf (Hendrycks & Gimpel, arXiv:1606.08415)
  gelu_tanh,  // its tanh approximation, same paper
  silu,       // x σ(x)
  tanh,
};

struct activation_args {
  tensor out;
  tensor x;
  activation_kind kind = activation_kind::none;
};

struct gated_activation_args {
  tensor out;
  tensor gate;
  tensor up;
  activation_kind kind = activation_kind::none;
};

namespace ops {
void activation(exec&, const activation_args&);
void gated_activation(exec&, const gated_activation_args&);
}  // namespace ops

}  // namespace ft
