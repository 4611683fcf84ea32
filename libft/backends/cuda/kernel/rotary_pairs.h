// V consecutive pairs of a head, turned by the angles of a rotary table (ops/rotary.h): for the kernel that turns
// queries and keys in place, and for the one that turns keys on their way into pages.
#pragma once

#include "backends/cuda/kernel/vector.h"

namespace ft::cuda {

struct rotary_pairs {
  const float* table;
  int n;  // pairs a head
  bool half;

#ifdef __CUDACC__
  // Pairs i .. i + V - 1 of a head of `token`; `from` and `to`, which may be equal, are where its first element lies
  // and goes. With V > 1 all of this is aligned to vectors; with V = 1 a pair may start at any element.
  template <int V, class From, class To>
  __device__ void turn(int64_t token, int i, const From* from, To* to) const {
    float cosine[V], sine[V], both[2 * V], first[V], second[V];
    load<V>(table + token * 2 * n + i, cosine);
    load<V>(table + token * 2 * n + n + i, sine);
    if (half) {
      load<V>(from + i, first);
      load<V>(from + n + i, second);
    } else {
      if constexpr (V == 1)
        both[0] = widen(from[2 * i]), both[1] = widen(from[2 * i + 1]);
      else
        load<2 * V>(from + 2 * i, both);
#pragma unroll
      for (int k = 0; k < V; ++k) first[k] = both[2 * k], second[k] = both[2 * k + 1];
    }
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const float u = first[k], v = second[k];
      first[k] = u * cosine[k] - v * sine[k];
      second[k] = v * cosine[k] + u * sine[k];
    }
    if (half) {
      store<V>(to + i, first);
      store<V>(to + n + i, second);
      return;
    }
#pragma unroll
    for (int k = 0; k < V; ++k) both[2 * k] = first[k], both[2 * k + 1] = second[k];
    if constexpr (V == 1)
      to[2 * i] = narrow<To>(both[0]), to[2 * i + 1] = narrow<To>(both[1]);
    else
      store<2 * V>(to + 2 * i, both);
  }
#endif
};

}  // namespace ft::cuda
