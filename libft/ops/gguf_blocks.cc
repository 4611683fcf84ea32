// Decoding of GGUF blocks and of the plain float types; see the header for the layouts.
#include "ops/gguf_blocks.h"

#include <algorithm>
#include <cstring>

#include "core/half.h"
#include "core/status.h"

namespace ft {
namespace {

uint16_t u16_at(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }

uint32_t u32_at(const uint8_t* p) { return u16_at(p) | static_cast<uint32_t>(u16_at(p + 2)) << 16; }

float f16_at(const uint8_t* p) { return f16_to_f32(u16_at(p)); }

void set_plain_scales(gguf_block& out) {
  out.scale[0] = 1;
  out.min[0] = 1;
}

void take_nibbles_32(const uint8_t* nibbles, uint8_t* quant) {
  for (int i = 0; i < 16; ++i) {
    quant[i] = nibbles[i] & 15;
    quant[i + 16] = nibbles[i] >> 4;
  }
}

void take_fifth_bits_32(const uint8_t* bits, uint8_t* quant) {
  const uint32_t high = u32_at(bits);
  for (int i = 0; i < 32; ++i) quant[i] |= static_cast<uint8_t>((high >> i & 1) << 4);
}

// The 32-element types: d, then m if there is one, then the fifth bits if there are, then the nibbles.
void take_apart_32(const uint8_t* p, bool has_min, bool has_fifth_bits, gguf_block& out) {
  out.d = f16_at(p);
  p += 2;
  out.m = has_min ? f16_at(p) : 0;
  p += has_min ? 2 : 0;
  take_nibbles_32(p + (has_fifth_bits ? 4 : 0), out.quant);
  if (has_fifth_bits) take_fifth_bits_32(p, out.quant);
  set_plain_scales(out);
}

void take_apart_q8_0(const uint8_t* p, gguf_block& out) {
  out.d = f16_at(p);
  out.m = 0;
  for (int i = 0; i < 32; ++i) out.quant[i] = p[2 + i] ^ 0x80;
  set_plain_scales(out);
}

// Each 32 bytes of nibbles hold 64 elements, low nibbles first; bit j of fifth-bit byte i belongs to element 32 j + i.
void take_apart_k(const uint8_t* p, bool has_fifth_bits, gguf_block& out) {
  out.d = f16_at(p);
  out.m = -f16_at(p + 2);
  uint8_t scale[8], min[8];
  take_k_scales(p + 4, scale, min);
  std::copy(scale, scale + 8, out.scale);
  std::copy(min, min + 8, out.min);
  const uint8_t* fifth = p + 16;
  const uint8_t* nibbles = fifth + (has_fifth_bits ? 32 : 0);
  for (int i = 0; i < 256; ++i) {
    const int sub = i / 32, byte = i / 64 * 32 + i % 32;
    int q = nibbles[byte] >> (sub % 2 * 4) & 15;
    if (has_fifth_bits) q |= (fifth[i % 32] >> sub & 1) << 4;
    out.quant[i] = static_cast<uint8_t>(q);
  }
}

// Each half of 128 elements has 64 bytes of nibbles (elements 0-63 low, 64-127 high) and 32 bytes of pairs of high
// bits: pair j of byte i belongs to element 32 j + i.
void take_apart_q6_k(const uint8_t* p, gguf_block& out) {
  out.d = f16_at(p + 208);
  out.m = 0;
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, j = i % 128;
    const int low = p[half * 64 + j % 64] >> (j / 64 * 4) & 15;
    const int high = p[128 + half * 32 + j % 32] >> (j / 32 * 2) & 3;
    out.quant[i] = static_cast<uint8_t>(low | high << 4);
  }
  for (int i = 0; i < 16; ++i) {
    out.scale[i] = static_cast<int8_t>(p[192 + i]);
    out.min[i] = 0;
  }
}

void dequantise_blocks(dtype type, const uint8_t* row, int64_t n, float* out) {
  const dtype_traits& t = traits(type);
  FT_CHECK(n % t.block_elements == 0);
  const int sub = sub_block_elements(type), zero = zero_point(type);
  const bool has_min = type == dtype::q4_1 || type == dtype::q5_1 || type == dtype::q4_k || type == dtype::q5_k;
  gguf_block block;
  for (int64_t at = 0; at < n; at += t.block_elements, row += t.block_bytes) {
    take_apart(type, row, block);
    for (int s = 0; s < t.block_elements / sub; ++s) {
      const float scale = block.d * static_cast<float>(block.scale[s]);
      const float min = block.m * static_cast<float>(block.min[s]);
      const uint8_t* quant = block.quant + s * sub;
      for (int i = 0; i < sub; ++i) {
        const float product = scale * static_cast<float>(quant[i] - zero);
        *out++ = has_min ? product + min : product;
      }
    }
  }
}

}  // namespace

// The first four of each lie in the low six bits of bytes 0-3 and 4-7; the low nibbles of the last four in bytes 8-11
// (scale low, min high), their top two bits in the top bits of bytes 0-3 and 4-7.
void take_k_scales(const uint8_t* packed, uint8_t* scale, uint8_t* min) {
  for (int i = 0; i < 4; ++i) {
    scale[i] = packed[i] & 63;
    min[i] = packed[i + 4] & 63;
    scale[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15) | packed[i] >> 6 << 4);
    min[i + 4] = static_cast<uint8_t>(packed[i + 8] >> 4 | packed[i + 4] >> 6 << 4);
  }
}

void take_apart(dtype type, const void* block, gguf_block& out) {
  const auto* p = static_cast<const uint8_t*>(block);
  switch (type) {
    case dtype::q4_0:
      return take_apart_32(p, false, false, out);
    case dtype::q4_1:
      return take_apart_32(p, true, false, out);
    case dtype::q5_0:
      return take_apart_32(p, false, true, out);
    case dtype::q5_1:
      return take_apart_32(p, true, true, out);
    case dtype::q8_0:
      return take_apart_q8_0(p, out);
    case dtype::q4_k:
      return take_apart_k(p, false, out);
    case dtype::q5_k:
      return take_apart_k(p, true, out);
    case dtype::q6_k:
      return take_apart_q6_k(p, out);
    default:
      fail(FT_ERROR_INTERNAL, "take_apart: ", name(type), " is not a block-quantised type");
  }
}

int sub_block_elements(dtype type) { return type == dtype::q6_k ? 16 : 32; }

int zero_point(dtype type) {
  switch (type) {
    case dtype::q4_0:
      return 8;
    case dtype::q5_0:
      return 16;
    case dtype::q6_k:
      return 32;
    case dtype::q8_0:
      return 128;
    default:
      return 0;
  }
}

void dequantise_row(dtype type, const void* row, int64_t n, float* out) {
  const auto* p = static_cast<const uint8_t*>(row);
  if (is_quantised(type)) return dequantise_blocks(type, p, n, out);
  switch (type) {
    case dtype::f32:
      if (n > 0) std::memcpy(out, row, static_cast<size_t>(n) * sizeof(float));
      return;
    case dtype::f16:
      for (int64_t i = 0; i < n; ++i) out[i] = f16_at(p + 2 * i);
      return;
    case dtype::bf16:
      for (int64_t i = 0; i < n; ++i) out[i] = bf16_to_f32(u16_at(p + 2 * i));
      return;
    case dtype::f64:
      for (int64_t i = 0; i < n; ++i) {
        double value;
        std::memcpy(&value, p + 8 * i, sizeof value);
        out[i] = static_cast<float>(value);
      }
      return;
    default:
      fail(FT_ERROR_UNSUPPORTED, "weights of type ", name(type), " cannot be read as floating point");
  }
}

float f16_to_f32(uint16_t bits) { return to_float(f16{bits}); }
float bf16_to_f32(uint16_t bits) { return to_float(bf16{bits}); }
uint16_t f32_to_f16(float value) { return from_float<f16>(value).bits; }
uint16_t f32_to_bf16(float value) { return from_float<bf16>(value).bits; }

}  // namespace ft
