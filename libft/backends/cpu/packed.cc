// Which matrices may be stacked into one packed weight.
#include "backends/cpu/packed.h"

namespace ft::cpu {
namespace {

bool is_plain_weight(dtype type) { return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16; }

}  // namespace

bool can_pack_together(std::span<const tensor> parts) {
  if (parts.empty()) return false;
  const tensor& first = parts[0];
  for (const tensor& part : parts) {
    if (part.rank != 2 || part.dim(1) != first.dim(1)) return false;
    if (is_quantised(first.type) ? part.type != first.type : !is_plain_weight(part.type)) return false;
  }
  return true;
}

void check_parts(std::span<const tensor> parts) {
  if (can_pack_together(parts)) {
    if (parts[0].dim(1) == 0) fail(FT_ERROR_UNSUPPORTED, "a weight without columns cannot be multiplied with");
    return;
  }
  for (const tensor& part : parts)
    if (!is_quantised(part.type) && !is_plain_weight(part.type))
      fail(FT_ERROR_UNSUPPORTED, "a weight of dtype ", name(part.type),
           " cannot be multiplied with: convert it to float32, float16 or bfloat16");
  fail(FT_ERROR_INTERNAL, "weights of different widths or quantised types cannot be packed together");
}

}  // namespace ft::cpu
