// Integer dot products of 32 (or 16) columns for a vector of rows, exact at every level: unsigned integers of the
// weights times signed bytes of the activations.
//
// With VNNI an instruction multiplies four pairs and adds them to 32 bits. Without it, maddubs adds two products to 16
// bits that saturate: several such sums are added before they are widened, as many as the largest values allow
// (127 x 15 x 2 x 8 = 30480 for 4 bits), and 8-bit weights are split into two planes of 4 bits.
#pragma once

#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA::quantised {

typedef uint8_t bytes __attribute__((vector_size(lanes * 4)));
typedef uint16_t words __attribute__((vector_size(lanes * 4)));

inline constexpr int groups = 8;  // of four columns in a block

#if defined(__AVX512VNNI__)
inline constexpr bool has_vnni = true;
#else
inline constexpr bool has_vnni = false;
#endif
#if defined(__AVX2__)
inline constexpr bool splits_bytes = !has_vnni;
#else
inline constexpr bool splits_bytes = false;
#endif

// The unsigned integers of 32 columns of `lanes` rows, in groups of four columns: the form that dot() takes.
template <int bits>
struct block_integers {
  static constexpr int planes = bits == 8 && splits_bytes ? 2 : 1;
  bytes group[planes][groups];
};

FT_INLINE ivec four_columns(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof four);
  return broadcast(four);
}

#if defined(__AVX512VNNI__)

template <int bits, int first, int count>
FT_INLINE ivec dot(const block_integers<bits>& w, const int8_t* x, ivec sum) {
  for (int g = first; g < first + count; ++g)
    sum = (ivec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w.group[0][g], (__m512i)four_columns(x + 4 * g));
  return sum;
}

#elif defined(__AVX2__)

#if defined(__AVX512BW__)
FT_INLINE words multiply_pairs(bytes w, ivec x) { return (words)_mm512_maddubs_epi16((__m512i)w, (__m512i)x); }
FT_INLINE ivec widen_pairs(words sums, int16_t factor) {
  return (ivec)_mm512_madd_epi16((__m512i)sums, _mm512_set1_epi16(factor));
}
#else
FT_INLINE words multiply_pairs(bytes w, ivec x) { return (words)_mm256_maddubs_epi16((__m256i)w, (__m256i)x); }
FT_INLINE ivec widen_pairs(words sums, int16_t factor) {
  return (ivec)_mm256_madd_epi16((__m256i)sums, _mm256_set1_epi16(factor));
}
#endif

template <int bits, int first, int count>
FT_INLINE ivec dot(const block_integers<bits>& w, const int8_t* x, ivec sum) {
  constexpr int run = bits == 6 ? 2 : bits == 5 ? 4 : 8;  // products whose sum 16 bits hold
  for (int plane = 0; plane < w.planes; ++plane)
    for (int g = first; g < first + count; g += run) {
      words pairs = multiply_pairs(w.group[plane][g], four_columns(x + 4 * g));
      for (int i = g + 1; i < g + run && i < first + count; ++i)
        pairs += multiply_pairs(w.group[plane][i], four_columns(x + 4 * i));
      sum += widen_pairs(pairs, plane ? 16 : 1);
    }
  return sum;
}

#else

// Even and odd bytes apart, each in 16 bits: products of pairs need 17 bits and are added in 32.
template <int bits, int first, int count>
FT_INLINE ivec dot(const block_integers<bits>& w, const int8_t* x, ivec sum) {
  for (int g = first; g < first + count; ++g) {
    const ivec four = four_columns(x + 4 * g), weights = (ivec)w.group[0][g];
    for (int j = 0; j < 4; ++j) {
      const ivec column = (weights >> (8 * j)) & 255;
      sum += column * ((four << (24 - 8 * j)) >> 24);
    }
  }
  return sum;
}

#endif

}  // namespace ft::cpu::FT_ISA::quantised
