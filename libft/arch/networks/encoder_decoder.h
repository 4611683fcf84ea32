// The transformer of two stacks (arXiv:1706.03762): one recipe, driven by the configuration, for every family whose
// encoder reads a text that its decoder answers. The families write their own config maps and weight tables, the latter
// with the names that encoder_decoder.cc loads.
#pragma once

#include "arch/family.h"

namespace ft::arch {

std::unique_ptr<network> build_encoder_decoder(const model_config& config, const weight_match& match,
                                               const build_options& options);

// T5's buckets of relative positions (arXiv:1910.10683 section 2.1): which of `buckets` a key at `distance` from its
// query falls in. Half of a direction's buckets hold one distance each, the others ranges that grow by a factor, up to
// max_distance and beyond.
int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t max_distance);

}  // namespace ft::arch
