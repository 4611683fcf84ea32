#include "core/dtype.h"

#include <array>

#include "core/status.h"

namespace ft {
namespace {

constexpr std::array<dtype_traits, 21> table = {{
    {"float32", 1, 4},  {"float16", 1, 2},  {"bfloat16", 1, 2}, {"float64", 1, 8}, {"int8", 1, 1},   {"uint8", 1, 1},
    {"int16", 1, 2},    {"int32", 1, 4},    {"int64", 1, 8},    {"uint16", 1, 2},  {"uint32", 1, 4}, {"uint64", 1, 8},
    {"bool", 1, 1},     {"q4_0", 32, 18},   {"q4_1", 32, 20},   {"q5_0", 32, 22},  {"q5_1", 32, 24}, {"q8_0", 32, 34},
    {"q4_k", 256, 144}, {"q5_k", 256, 176}, {"q6_k", 256, 210},
}};

}  // namespace

const dtype_traits& traits(dtype type) { return table[static_cast<size_t>(type)]; }

size_t bytes_of(dtype type, int64_t elements) {
  const dtype_traits& t = traits(type);
  FT_CHECK(elements >= 0 && elements % t.block_elements == 0);
  return static_cast<size_t>(elements / t.block_elements) * static_cast<size_t>(t.block_bytes);
}

std::optional<dtype> dtype_from_name(std::string_view name) {
  for (size_t i = 0; i < table.size(); ++i)
    if (table[i].name == name) return static_cast<dtype>(i);
  return std::nullopt;
}

}  // namespace ft
