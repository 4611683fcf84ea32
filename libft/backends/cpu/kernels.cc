// The kernels of each level, made once when first asked for.
#include "backends/cpu/kernels.h"

#include <algorithm>

namespace ft::cpu {

const kernels& kernels_of(isa_level level) {
  const auto& levels = available_levels();
  if (std::find(levels.begin(), levels.end(), level) == levels.end())
    fail(FT_ERROR_UNSUPPORTED, "this processor lacks the instruction set ", name(level));
  switch (level) {
#if defined(__x86_64__)
    case isa_level::avx2: {
      static const kernels k = avx2::make_kernels();
      return k;
    }
    case isa_level::avx512: {
      static const kernels k = avx512::make_kernels();
      return k;
    }
    case isa_level::avx512_bf16: {
      static const kernels k = avx512_bf16::make_kernels();
      return k;
    }
#endif
    case isa_level::portable: {
      static const kernels k = portable::make_kernels();
      return k;
    }
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
