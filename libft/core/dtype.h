// Element types: plain ones, and GGUF's block-quantised ones, whose unit is a block of elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ft {

enum class dtype : uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  u8,
  i16,
  i32,
  i64,
  u16,
  u32,
  u64,
  boolean,
  // GGUF blocks; the layout of each is described where it is decoded (ops/gguf_blocks.h).
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q4_k,
  q5_k,
  q6_k,
};

struct dtype_traits {
  std::string_view name;  // "float32", "bfloat16", "q4_k", ...
  int block_elements;     // 1 for plain types
  int block_bytes;
};

const dtype_traits& traits(dtype type);

inline std::string_view name(dtype type) { return traits(type).name; }
inline bool is_quantised(dtype type) { return type >= dtype::q4_0; }
inline bool is_float(dtype type) { return type <= dtype::f64; }

// Bytes of `elements` consecutive elements; for a quantised type a whole number of blocks is required.
size_t bytes_of(dtype type, int64_t elements);

// The dtype of that name, if there is one.
std::optional<dtype> dtype_from_name(std::string_view name);

}  // namespace ft
