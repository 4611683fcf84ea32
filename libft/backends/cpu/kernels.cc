// The kernels of each level, made once when first asked for.
#include "backends/cpu/kernels.h"

#include <algorithm>

namespace ft::cpu {

const kernels& kernels_of(isa_level level) {
  const auto& levels = available_levels();
  if (std::find(levels.begin(), levels.end(), level) == levels.end())
    fail(FT_ERROR_UNSUPPORTED, "this processor lacks the instruction set ", name(level));
  switch (level) {
#define FT_CASE(level)                              \
  case isa_level::level: {                          \
    static const kernels k = level::make_kernels(); \
    return k;                                       \
  }
    FT_FOR_EACH_BUILT_LEVEL(FT_CASE)
#undef FT_CASE
    default: {
      static const kernels k = reference_kernels();
      return k;
    }
  }
}

size_t kv_page_bytes(const kv_layout& layout) {
  return bytes_of(layout.type, layout.num_kv_heads * layout.page_tokens * layout.head_dim);
}

}  // namespace ft::cpu
