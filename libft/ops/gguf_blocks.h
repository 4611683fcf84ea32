// GGUF's block-quantised elements: the layout of each type in a file, and plain, exact decoding of it. The reference
// operations, the packing of weights and the tests build on this; fast kernels use layouts of their own.
//
// All numbers are little-endian and blocks have no alignment. d, m, dmin are float16; element i of a block is
//
//   q4_0   32: d, nibbles[16]                              d * (q - 8)      low nibbles are elements 0..15,
//   q4_1   32: d, m, nibbles[16]                           d * q + m        high ones 16..31
//   q5_0   32: d, fifth bits u32, nibbles[16]              d * (q - 16)     bit i of the u32 belongs to element i
//   q5_1   32: d, m, fifth bits u32, nibbles[16]           d * q + m
//   q8_0   32: d, int8[32]                                 d * q
//   q4_k  256: d, dmin, s[12], nibbles[128]                d * scale * q - dmin * min, a scale and a min every 32
//   q5_k  256: d, dmin, s[12], fifth bits[32], nibbles[128]     "
//   q6_k  256: nibbles[128], high pairs[64], int8 scale[16], d  d * scale * (q - 32), a scale every 16
//
// Source: the format's description in the `gguf` package and ggml's ggml-quants (read, not copied).
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace ft {

// One block taken apart. Element i is d * scale[i / sub] * (quant[i] - zero) + m * min[i / sub], where
// sub = sub_block_elements(type), zero = zero_point(type), and types without sub-blocks have scale = min = 1.
// q8_0's int8 are stored plus 128, so that every quant is unsigned. For K-types m is -dmin.
struct gguf_block {
  float d;
  float m;  // 0 for types without a minimum
  uint8_t quant[256];
  int16_t scale[16];
  int16_t min[16];
};

// The eight 6-bit scales and minima that q4_k and q5_k hold in 12 bytes.
void take_k_scales(const uint8_t* packed, uint8_t* scale, uint8_t* min);

// Throws ft::error for a type that is not quantised.
void take_apart(dtype type, const void* block, gguf_block& out);

int sub_block_elements(dtype type);  // 32; 16 for q6_k
int zero_point(dtype type);          // 8, 16, 32, 128 or 0

// out[i] = element i of `n` elements that start at `row`: a whole number of blocks of a GGUF type, or plain f32, f16,
// bf16, f64. Needs no alignment. Computed in float32, as the formulas above say, rounding after each operation.
// Throws ft::error (FT_ERROR_UNSUPPORTED) for integer types.
void dequantise_row(dtype type, const void* row, int64_t n, float* out);

float f16_to_f32(uint16_t bits);
float bf16_to_f32(uint16_t bits);
// Round to nearest even; too large becomes infinite, NaN stays NaN.
uint16_t f32_to_f16(float value);
uint16_t f32_to_bf16(float value);

}  // namespace ft
