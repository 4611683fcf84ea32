// linear and gated_linear for more rows than few_rows.h takes and still so few that reading the weights is what counts:
// compute capability 9.0, on warpgroup products.
#pragma once

#include "backends/cuda/device/weight.h"
#include "ops/linear.h"

namespace ft::cuda {

// Whether this is the fastest way there is for such a product. A gated one comes as that of linear whose output has
// half as many features as the weight.
bool some_rows_take(const linear_args& args, const cuda_weight& weight);

void multiply_some_rows(exec& ex, const linear_args& args, const cuda_weight& weight);

}  // namespace ft::cuda
