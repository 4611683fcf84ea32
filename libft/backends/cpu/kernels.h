// What each level of CPU kernels provides: an op table and a way to pack weights for it.
#pragma once

#include <memory>
#include <span>

#include "backends/cpu/isa_level.h"
#include "backends/cpu/weight_memory.h"
#include "built_levels.h"
#include "ops/op_table.h"

namespace ft::cpu {

struct kernels {
  op_table ops;
  // backend::pack
  std::unique_ptr<packed_weight> (*pack)(std::span<const stored_weight> parts, const weight_format& made,
                                         memory& from) = nullptr;
};

// Plain code in ref/: the oracle that every other level is tested against.
kernels reference_kernels();

// The level's kernels. Each is defined by isa/table.cc, compiled once per level.
#define FT_DECLARE(level) \
  namespace level {       \
  kernels make_kernels(); \
  }
FT_FOR_EACH_BUILT_LEVEL(FT_DECLARE)
#undef FT_DECLARE

const kernels& kernels_of(isa_level level);  // throws for a level that is not available

// Bytes of a layer's page of keys (values take as many). Keys are stored [kv_head][head_dim][page_tokens], so that a
// vector holds one element of consecutive tokens and scores need no horizontal sums; values
// [kv_head][page_tokens][head_dim].
size_t kv_page_bytes(const kv_layout& layout);

}  // namespace ft::cpu
