// Reads the panels of backends/cpu/quantised_panels.h: the integers and the scales of 32 columns for a vector of rows.
#pragma once

#include "backends/cpu/gemm/quantised_dot.h"
#include "backends/cpu/quantised_panels.h"

namespace ft::cpu::FT_ISA::quantised {

FT_INLINE bytes nibbles(bytes x, int shift) { return (bytes)((words)x >> shift) & 15; }

// x shifted by whole bits so that bit `from` of each byte comes to bit 4; the bits around it are for the caller to
// mask away.
FT_INLINE bytes to_bit_4(bytes x, int from) {
  return from <= 4 ? (bytes)((words)x << (4 - from)) : (bytes)((words)x >> (from - 4));
}

// `block` is the place of the rows in the first vector of the block.
template <int bits>
FT_INLINE void load_integers(const uint8_t* block, block_integers<bits>& w) {
  if constexpr (bits == 8) {
    for (int g = 0; g < groups; ++g) {
      const bytes x = load_bits<bytes>(block + g * group_bytes);
      w.group[0][g] = splits_bytes ? nibbles(x, 0) : x;
      if constexpr (splits_bytes) w.group[1][g] = nibbles(x, 4);
    }
    return;
  }
  for (int v = 0; v < 4; ++v) {
    const bytes x = load_bits<bytes>(block + v * group_bytes);
    w.group[0][v] = nibbles(x, 0);
    w.group[0][v + 4] = nibbles(x, 4);
  }
  const uint8_t* top = block + 4 * group_bytes;
  if constexpr (bits == 5) {
    const bytes x = load_bits<bytes>(top);
    for (int g = 0; g < groups; ++g) w.group[0][g] |= to_bit_4(x, g) & 0x10;
  }
  if constexpr (bits == 6) {
    for (int v = 0; v < 2; ++v) {
      const bytes x = load_bits<bytes>(top + v * group_bytes);
      for (int g = 0; g < 4; ++g) w.group[0][4 * v + g] |= to_bit_4(x, 2 * g) & 0x30;
    }
  }
}

// `lanes` bytes as floats. (GCC 12 takes the lanes out one by one if left to convert vectors of bytes itself.)
FT_INLINE vec load_unsigned(const uint8_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  vec x;
  for (int i = 0; i < lanes; ++i) x[i] = p[i];
  return x;
#endif
}

FT_INLINE vec load_signed(const uint8_t* p) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  vec x;
  for (int i = 0; i < lanes; ++i) x[i] = static_cast<int8_t>(p[i]);
  return x;
#endif
}

FT_INLINE vec load_halves(const uint8_t* p) { return widen(load_bits<hvec>(p), f16{}); }

// What multiplies the integer sums of the block's halves (one value for both unless scales come every 16 columns),
// and what multiplies the sum of the activations.
template <dtype type>
struct block_scales {
  static constexpr panel_format format = format_of(type);
  static constexpr int parts = type == dtype::q6_k ? 2 : 1;
  vec scale[parts];
  vec min;
};

// The scales of block b of a record; `row` is the first of the rows.
template <dtype type>
FT_INLINE block_scales<type> load_scales(const uint8_t* record, int b, int row) {
  constexpr panel_format format = format_of(type);
  block_scales<type> s;
  const vec d = load_halves(record + 2 * row);
  s.min = format.has_min ? load_halves(record + 32 + 2 * row) : zero();
  if constexpr (format.scale_blocks == 1) {
    s.scale[0] = d;
  } else if constexpr (format.has_min) {
    const uint8_t* pair = record + 64 + b * 32 + row;
    s.scale[0] = d * load_unsigned(pair);
    s.min *= load_unsigned(pair + 16);
  } else {
    const uint8_t* pair = record + 32 + b * 32 + row;
    for (int i = 0; i < 2; ++i) s.scale[i] = d * load_signed(pair + 16 * i);
  }
  return s;
}

}  // namespace ft::cpu::FT_ISA::quantised
