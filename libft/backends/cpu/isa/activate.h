// The activation functions on one vector, for the activation kernels and for the epilogues of matrix products.
#pragma once

#include "backends/cpu/isa/simd.h"
#include "ops/activation.h"

namespace ft::cpu::FT_ISA {

// x Φ(x) = max(x, 0) - |x| / 2 · erfc(|x| / √2): without the cancellation of 1 + erf for negative x.
FT_INLINE vec gelu(vec x) {
  const vec magnitude = min(abs(x), broadcast(20.0f));  // the product below is 0 from 15 on
  const vec tail = exp(-minus_log_erfc(magnitude * 0.70710678f));
  return fma(-0.5f * magnitude, tail, max(zero(), x));
}

// x/2 (1 + tanh u) = x σ(2 u), u = √(2/π) (x + 0.044715 x³).
FT_INLINE vec gelu_tanh(vec x) {
  const vec u2 = x * fma(x * x, broadcast(0.071354816f), broadcast(1.5957691f));
  return x * sigmoid(u2);
}

template <activation_kind kind>
FT_INLINE vec activate(vec x) {
  if constexpr (kind == activation_kind::relu) return max(zero(), x);
  if constexpr (kind == activation_kind::gelu) return gelu(x);
  if constexpr (kind == activation_kind::gelu_tanh) return gelu_tanh(x);
  if constexpr (kind == activation_kind::silu) return x * sigmoid(x);
  if constexpr (kind == activation_kind::tanh) return tanh(x);
  return x;
}

// Calls body with the kind as a compile-time constant (std::integral_constant-like: decltype(k)::value).
template <activation_kind kind>
struct activation_constant {
  static constexpr activation_kind value = kind;
};

template <class Body>
FT_INLINE void with_activation(activation_kind kind, Body&& body) {
  switch (kind) {
    case activation_kind::none:
      return body(activation_constant<activation_kind::none>{});
    case activation_kind::relu:
      return body(activation_constant<activation_kind::relu>{});
    case activation_kind::gelu:
      return body(activation_constant<activation_kind::gelu>{});
    case activation_kind::gelu_tanh:
      return body(activation_constant<activation_kind::gelu_tanh>{});
    case activation_kind::silu:
      return body(activation_constant<activation_kind::silu>{});
    case activation_kind::tanh:
      return body(activation_constant<activation_kind::tanh>{});
  }
}

}  // namespace ft::cpu::FT_ISA
