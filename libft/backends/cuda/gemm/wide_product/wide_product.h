// linear for many rows on compute capability 9.0, by our own product. It exists for what cuBLASLt cannot do before it
// writes a product: any activation, the exact GELU above all, and a residual after it.
#pragma once

#include "backends/cuda/gemm/product.h"

namespace ft::cuda {

// Whether this product can be computed by multiply_wide(), and is faster so.
bool wide_product_takes(const product& p);

// All of linear. A sum is rounded to the outputs' dtype before bias, activation and residual, which are float32.
void multiply_wide(exec& ex, const product& p);

}  // namespace ft::cuda
