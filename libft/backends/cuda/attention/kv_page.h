// How keys and values lie in their pages on the GPU: [kv_head][page_tokens][head_dim] both, so that one head's keys of
// a page are consecutive and a key is read as vectors.
#pragma once

#include "ops/kv_cache.h"

namespace ft::cuda {

inline size_t kv_page_bytes(const kv_layout& l) {
  return bytes_of(l.type, l.num_kv_heads * l.page_tokens * l.head_dim);
}

// The same for the device, in numbers that kernels take.
struct page_shape {
  int kv_heads, head_dim, page_tokens;

#ifdef __CUDACC__
  // The element at which a head's key or value of a token begins.
  __device__ int64_t begin(int page, int head, int token) const {
    return ((static_cast<int64_t>(page) * kv_heads + head) * page_tokens + token) * head_dim;
  }
#endif
};

inline page_shape shape_of(const kv_layout& l) {
  return {static_cast<int>(l.num_kv_heads), static_cast<int>(l.head_dim), static_cast<int>(l.page_tokens)};
}

}  // namespace ft::cuda
