// Times the algorithms for the matrix products of a model, at the numbers of tokens that are asked for.
#pragma once

#include <span>
#include <vector>

#include "runtime/model.h"

namespace ft::runtime {

// Runs a pass of each number of tokens, in rows as long as the model takes. Later passes, of this process and others,
// use what was found. Throws ft::error (FT_ERROR_UNSUPPORTED) on a device with nothing to tune.
std::vector<tuned_product> tune(model& m, std::span<const int64_t> token_counts);

}  // namespace ft::runtime
