// How the hidden states of a row become one vector (ops/pool.h), as sentence-transformers names it.
#pragma once

#include <cstdint>

namespace ft {

enum class pool_kind : uint8_t { mean, first, last, max };

}  // namespace ft
