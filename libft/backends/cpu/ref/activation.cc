// The oracle for activation and gated_activation.
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {

double activate(activation_kind kind, double x) {
  switch (kind) {
    case activation_kind::none:
      return x;
    case activation_kind::relu:
      return x < 0 ? 0 : x;
    case activation_kind::gelu:
      return 0.5 * x * std::erfc(-x * std::sqrt(0.5));
    case activation_kind::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case activation_kind::silu:
      return x / (1 + std::exp(-x));
    case activation_kind::tanh:
      return std::tanh(x);
  }
  return x;
}

void activation(exec&, const activation_args& a) {
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    const float* x = a.x.as<float>() + r * a.x.stride[0];
    float* out = a.out.as<float>() + r * a.out.stride[0];
    for (int64_t i = 0; i < a.x.shape[1]; ++i) out[i] = static_cast<float>(activate(a.kind, x[i]));
  }
}

void gated_activation(exec&, const gated_activation_args& a) {
  for (int64_t r = 0; r < a.gate.shape[0]; ++r) {
    const float* gate = a.gate.as<float>() + r * a.gate.stride[0];
    const float* up = a.up.as<float>() + r * a.up.stride[0];
    float* out = a.out.as<float>() + r * a.out.stride[0];
    for (int64_t i = 0; i < a.gate.shape[1]; ++i) out[i] = static_cast<float>(activate(a.kind, gate[i]) * up[i]);
  }
}

}  // namespace ft::cpu::ref
