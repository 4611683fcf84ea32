// Tables of positions that are computed at load: T5's bias by relative distance, and sinusoidal positions.
#pragma once

#include <string>

#include "arch/config/config.h"
#include "nn/embedding.h"
#include "nn/parameter.h"

namespace ft::arch {

class weight_loader;

// T5's buckets of relative positions (arXiv:1910.10683 section 2.1): which of `buckets` a key at `distance` from its
// query falls in. Half of a direction's buckets hold one distance each, the others ranges that grow by a factor, up to
// max_distance and beyond.
int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t max_distance);

// The stored bias `name` [buckets, num_heads] laid out by distance for each head, as ops/attention.h wants it.
nn::parameter load_relative_bias(weight_loader& load, const std::string& name, int64_t num_heads, bool bidirectional,
                                 const positions_config& positions);

// Sines in the first half of a position's vector, cosines in the second (arXiv:1706.03762 section 3.5).
nn::embedding sinusoidal_positions(weight_loader& load, int64_t count, int64_t width);

}  // namespace ft::arch
