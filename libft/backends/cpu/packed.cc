// Which matrices may be stacked into one packed weight.
#include "backends/cpu/packed.h"

namespace ft::cpu {

void check_parts(std::span<const stored_weight> parts, const weight_format& made) {
  bool together = !parts.empty();
  for (const stored_weight& part : parts)
    together = together && part.data.rank == 2 && part.columns() == parts[0].columns() &&
               (made.kind != weight_kind::gguf_blocks || *part.format == made);
  if (!together) fail(FT_ERROR_INTERNAL, "weights of different widths or formats cannot be packed together");
  if (parts[0].columns() == 0) fail(FT_ERROR_UNSUPPORTED, "a weight without columns cannot be multiplied with");
}

}  // namespace ft::cpu
