// Scalar conversions between float32 and the two 16-bit float types, by their bits, so that they need no hardware.
#pragma once

#include <bit>
#include <cstdint>

namespace ft {

struct bf16 {
  uint16_t bits;
};

struct f16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return std::bit_cast<float>(uint32_t{x.bits} << 16); }

// The half's exponent and mantissa are moved into place; multiplying by 2^112 corrects the exponent's bias and makes
// subnormals normal. Infinities and NaNs get the widest exponent.
inline float to_float(f16 x) {
  const uint32_t magnitude = uint32_t{x.bits & 0x7fffu} << 13;
  const uint32_t sign = uint32_t{x.bits & 0x8000u} << 16;
  const uint32_t bits = (x.bits & 0x7c00u) == 0x7c00u
                            ? magnitude | 0x7f800000u
                            : std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  return std::bit_cast<float>(bits | sign);
}

template <class T>
T from_float(float x);

template <>
inline float from_float<float>(float x) {
  return x;
}

// To the nearest, ties to even; NaNs stay NaNs.
template <>
inline bf16 from_float<bf16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16)};
}

// To the nearest, ties to even; too large becomes infinity. Adding 2^-1 x 2^(exponent of the last kept bit) lets the
// float adder round subnormals; normal numbers round by integer addition as above.
template <>
inline f16 from_float<f16>(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // below 2^-14: the result counts units of 2^-24, which is the last place of 0.5f
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

}  // namespace ft
