// How each weight dtype is multiplied at this instruction-set level. The one matrix kernel (tile.h), the one packing of
// weights (dense_weight.h) and the one packing of activations (activations.h) are templates over these traits.
//
// A dot takes k in steps of `group` consecutive elements: what the processor's widest multiply-add sums at once (1 for
// float32 FMA, 2 for vdpbf16ps, 4 for vpdpbusd). A panel holds `panel_width` output features (two vectors of sums) as
// [k / group][panel_width][group], so a step reads whole vectors; a step of one row of x is one *unit*, broadcast to
// all lanes. Where one instruction cannot do a step it is done in `parts`.
//
// Sums are float32 (int32 for int8) and every output is one chain over ascending k: no result depends on the blocking.
//
// Rounding: float32 and float16 weights multiply float32 activations. bfloat16 weights do too, except on AVX512_BF16,
// whose instruction takes bfloat16 on both sides: there the activations are rounded to nearest even. int8 weights have
// a scale an output feature; activations are quantised per row as they come (activations.h).
#pragma once

#include "backends/cpu/isa/simd.h"
#include "core/dtype.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace ft::cpu::FT_ISA {

inline constexpr int panel_vectors = 2;
inline constexpr int panel_width = panel_vectors * lanes;

// Rows of x that one tile takes: as many as leave registers for a step's weights and one activation.
#if defined(__AVX512F__)
inline constexpr int tile_rows = 14;  // 28 of 32 registers
#elif defined(__AVX2__)
inline constexpr int tile_rows = 6;  // 12 of 16
#else
inline constexpr int tile_rows = 4;
#endif

template <class T>
FT_INLINE T read(const char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// What all dots with float32 sums and activations share.
struct f32_sums {
  using sum = vec;
  using activation = float;  // as packed
  static constexpr bool integer = false;
  static constexpr int parts = 1;
  static FT_INLINE vec activations(const char* unit, int part) { return broadcast(read<float>(unit + 4 * part)); }
  static FT_INLINE vec multiply_add(vec s, vec x, vec w) { return fma(x, w, s); }
};

struct f32_dot : f32_sums {
  using element = float;
  static constexpr dtype type = dtype::f32;
  static constexpr int group = 1;
  static FT_INLINE vec weights(const char* p, int) { return load_bits<vec>(p); }
};

struct f16_dot : f32_sums {
  using element = f16;
  static constexpr dtype type = dtype::f16;
  static constexpr int group = 1;
  static FT_INLINE vec weights(const char* p, int) { return widen(load_bits<hvec>(p), f16{}); }
};

#if defined(__AVX512BF16__)

struct bf16_dot : f32_sums {
  using element = bf16;
  using activation = bf16;
  static constexpr dtype type = dtype::bf16;
  static constexpr int group = 2;
  static FT_INLINE vec weights(const char* p, int) { return load_bits<vec>(p); }
  static FT_INLINE vec multiply_add(vec s, vec x, vec w) { return _mm512_dpbf16_ps(s, (__m512bh)x, (__m512bh)w); }
};

#else

// The pairs of the panels are taken apart by shifts: the even element is the low half of a lane, the odd one the high.
struct bf16_dot : f32_sums {
  using element = bf16;
  static constexpr dtype type = dtype::bf16;
  static constexpr int group = 2;
  static constexpr int parts = 2;
  static FT_INLINE vec weights(const char* p, int part) {
    const ivec pairs = load_bits<ivec>(p);
    return float_of(part == 0 ? pairs << 16 : pairs & static_cast<int32_t>(0xffff0000));
  }
};

#endif

// int8: `offset` is added to the activations to make them unsigned, and taken off the sums again by their initial
// value; `middle_swapped` says that a group's four elements lie in the order 0, 2, 1, 3.
struct i8_sums {
  using element = int8_t;
  using sum = ivec;
  static constexpr bool integer = true;
  static constexpr dtype type = dtype::i8;
  static constexpr int group = 4;
};

#if defined(__AVX512VNNI__)

struct i8_dot : i8_sums {
  using activation = uint8_t;
  static constexpr int offset = 128;
  static constexpr int parts = 1;
  static constexpr bool middle_swapped = false;
  static FT_INLINE ivec weights(const char* p, int) { return load_bits<ivec>(p); }
  static FT_INLINE ivec activations(const char* unit, int) { return broadcast(read<int32_t>(unit)); }
  static FT_INLINE ivec multiply_add(ivec s, ivec x, ivec w) {
    return (ivec)_mm512_dpbusd_epi32((__m512i)s, (__m512i)x, (__m512i)w);
  }
};

#elif defined(__SSE2__)  // every x86-64

// vpmaddubsw would saturate, so both sides are widened to int16 and summed in pairs by vpmaddwd, which is exact.
struct i8_dot : i8_sums {
  using activation = int16_t;
  static constexpr int offset = 0;
  static constexpr int parts = 2;
  static constexpr bool middle_swapped = true;  // a lane's even bytes are elements 0 and 1, its odd ones 2 and 3
  typedef int16_t svec __attribute__((vector_size(lanes * 4)));
  static FT_INLINE ivec weights(const char* p, int part) {
    const svec bytes = load_bits<svec>(p);
    return (ivec)(part == 0 ? (bytes << 8) >> 8 : bytes >> 8);
  }
  static FT_INLINE ivec activations(const char* unit, int part) { return broadcast(read<int32_t>(unit + 4 * part)); }
  static FT_INLINE ivec multiply_add(ivec s, ivec x, ivec w) {
#if defined(__AVX512F__)
    return s + (ivec)_mm512_madd_epi16((__m512i)x, (__m512i)w);
#elif defined(__AVX2__)
    return s + (ivec)_mm256_madd_epi16((__m256i)x, (__m256i)w);
#else
    return s + (ivec)_mm_madd_epi16((__m128i)x, (__m128i)w);
#endif
  }
};

#else

struct i8_dot : i8_sums {
  using activation = int16_t;
  static constexpr int offset = 0;
  static constexpr int parts = 4;
  static constexpr bool middle_swapped = false;
  static FT_INLINE ivec weights(const char* p, int part) {
    return load_bits<ivec>(p) << (24 - 8 * part) >> 24;  // the part's byte, with its sign
  }
  static FT_INLINE ivec activations(const char* unit, int part) {
    return broadcast(int32_t{read<int16_t>(unit + 2 * part)});
  }
  static FT_INLINE ivec multiply_add(ivec s, ivec x, ivec w) { return s + x * w; }
};

#endif

// The geometry that follows from a dot.
template <class D>
struct layout_of {
  static constexpr int unit_bytes = D::group * static_cast<int>(sizeof(typename D::activation));
  static constexpr int chunk_units = 64 / unit_bytes;  // a row of x is packed in chunks of a cache line
  static constexpr int chunk_elements = chunk_units * D::group;
  static constexpr int vector_bytes = lanes * D::group * static_cast<int>(sizeof(typename D::element));
  static constexpr int step_bytes = panel_vectors * vector_bytes;  // of a panel
  static int64_t units(int64_t k) { return (k + D::group - 1) / D::group; }
  static int64_t chunks(int64_t k) { return (k + chunk_elements - 1) / chunk_elements; }
};

}  // namespace ft::cpu::FT_ISA
