// What the enumerators of a configuration are called in JSON: in a manifest and for people to read. In their order.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "arch/config/config.h"

namespace ft::arch {

constexpr auto names_of(head_kind) {
  return std::to_array<std::string_view>(
      {"none", "causal_lm", "masked_lm", "sequence_classification", "token_classification"});
}
constexpr auto names_of(activation_kind) {
  return std::to_array<std::string_view>({"none", "relu", "gelu", "gelu_tanh", "silu", "tanh"});
}
constexpr auto names_of(norm_kind) { return std::to_array<std::string_view>({"layer_norm", "rms_norm"}); }
constexpr auto names_of(mlp_kind) { return std::to_array<std::string_view>({"plain", "gated"}); }
constexpr auto names_of(block_kind) {
  return std::to_array<std::string_view>({"pre_norm", "sandwich", "parallel", "post_norm", "normed_residual"});
}
constexpr auto names_of(rotary_style) { return std::to_array<std::string_view>({"half", "interleaved"}); }
constexpr auto names_of(pool_kind) { return std::to_array<std::string_view>({"mean", "cls", "last", "max"}); }

template <class Enum>
constexpr std::string_view name_of(Enum value) {
  return names_of(value)[static_cast<size_t>(value)];
}

// Nothing when there is none of the name.
template <class Enum>
constexpr std::optional<Enum> named(std::string_view name) {
  constexpr auto names = names_of(Enum{});
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<Enum>(i);
  return std::nullopt;
}

}  // namespace ft::arch
