// linear and gated_linear for more rows than few_rows.h takes and still so few that reading the weights is what counts:
// compute capability 9.0, on warpgroup products.
#pragma once

#include "backends/cuda/gemm/product.h"

namespace ft::cuda {

inline constexpr int64_t most_some_rows = 128;

// Whether this is the fastest way there is for a product of so many rows.
bool some_rows_take(const product& p);

void multiply_some_rows(exec& ex, const product& p);

}  // namespace ft::cuda
