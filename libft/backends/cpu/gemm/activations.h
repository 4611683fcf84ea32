// Rows of x as the kernel reads them: tiles of rows, each [chunk][row][64 bytes], converted to the dot's activation
// type and padded with zeros to whole chunks. Chunks keep a tile's rows from sharing a cache set when the width is a
// power of two, and make every address in the kernel's loop a constant offset.
#pragma once

#include "backends/cpu/gemm/dots.h"

namespace ft::cpu::FT_ISA {

// The scale of a dynamically quantised row (arXiv:1712.05877, section 2, with a zero point of zero): its largest
// magnitude becomes 127. A row too small for 1 / scale to be finite counts as zeros; infinities and NaNs make the scale
// NaN, and so the row's results.
struct row_scale {
  float scale;
  float inverse;
};

inline row_scale scale_of(const float* x, int64_t n) {
  vec largest = zero(), poison = zero();
  for_vectors(n, [&](int64_t i, auto count) {
    const vec v = load(x + i, count);
    largest = max(largest, abs(v));
    poison += v * 0.0f;
  });
  const float m = max(largest), nan = sum(poison);
  return {m / 127 + nan, m > 0x1p-100f && nan == 0 ? 127 / m : 0};
}

// To the nearest integer, ties to even: adding 1.5 2^23 leaves the integer in the low bits.
FT_INLINE ivec round_to_integer(vec x) {
  constexpr float to_integer = 0x1.8p23f;
  return bits_of(x + to_integer) - std::bit_cast<int32_t>(to_integer);
}

// n values of x (the rest of the 64 bytes is zero) into one chunk.
template <class D>
FT_INLINE void pack_chunk(const float* x, int64_t n, float inverse_scale, char* to) {
  using activation = typename D::activation;
  constexpr int count = 64 / static_cast<int>(sizeof(activation));
  for (int i = 0; i < count; i += lanes) {
    const int64_t left = n - i;
    const vec v = left >= lanes ? load(x + i) : left > 0 ? load(x + i, static_cast<int>(left)) : zero();
    activation* at = reinterpret_cast<activation*>(to) + i;
    if constexpr (D::integer) {
      typedef activation narrow_vec __attribute__((vector_size(lanes * sizeof(activation))));
      const auto q = __builtin_convertvector(round_to_integer(v * inverse_scale) + D::offset, narrow_vec);
      std::memcpy(at, &q, sizeof q);
    } else {
      store(at, v);
    }
  }
}

// One row of a tile of `rows`, from its first chunk `to`. Returns the row's scale (int8; else 1).
template <class D>
float pack_row(const float* x, int64_t k, int rows, char* to) {
  constexpr int elements = layout_of<D>::chunk_elements;
  row_scale s{1, 1};
  if constexpr (D::integer) s = scale_of(x, k);
  for (int64_t i = 0; i < k; i += elements, to += rows * 64) pack_chunk<D>(x + i, k - i, s.inverse, to);
  return s.scale;
}

}  // namespace ft::cpu::FT_ISA
