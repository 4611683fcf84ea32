// rotary_table and rotary.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/launch.h"

namespace ft::cuda {
namespace {

// The product is rounded to float32 before the functions are taken, and they are accurate for any angle: positions in
// the hundreds of thousands are angles of as many radians.
struct table_entry {
  float* table;
  const int32_t* positions;
  const float* inverse_frequency;
  float attention_factor;
  int n;

  __device__ void operator()(int64_t token, int i) const {
    float sine, cosine;
    sincosf(__fmul_rn(static_cast<float>(positions[token]), inverse_frequency[i]), &sine, &cosine);
    table[token * 2 * n + i] = attention_factor * cosine;
    table[token * 2 * n + n + i] = attention_factor * sine;
  }
};

template <int V>
__device__ void turn(float (&first)[V], float (&second)[V], const float (&cosine)[V], const float (&sine)[V]) {
#pragma unroll
  for (int k = 0; k < V; ++k) {
    const float u = first[k], v = second[k];
    first[k] = u * cosine[k] - v * sine[k];
    second[k] = v * cosine[k] + u * sine[k];
  }
}

// V pairs of one head; columns count through the pairs of all heads of a token.
template <class T, int V>
struct turn_pairs {
  head_view<T> x;
  const float* table;
  int n;
  bool half;

  __device__ void operator()(int64_t token, int column) const {
    const int head = column / n, i = column % n;
    float cosine[V], sine[V], first[V], second[V];
    load<V>(table + token * 2 * n + i, cosine);
    load<V>(table + token * 2 * n + n + i, sine);
    if (half) {
      T* at = x.at(token, head) + i;
      load<V>(static_cast<const T*>(at), first);
      load<V>(static_cast<const T*>(at + n), second);
      turn<V>(first, second, cosine, sine);
      store<V>(at, first);
      store<V>(at + n, second);
    } else {
      T* at = x.at(token, head) + 2 * i;
      float both[2 * V];
      if constexpr (V == 1)  // a pair may start at any element
        both[0] = widen(at[0]), both[1] = widen(at[1]);
      else
        load<2 * V>(static_cast<const T*>(at), both);
#pragma unroll
      for (int k = 0; k < V; ++k) first[k] = both[2 * k], second[k] = both[2 * k + 1];
      turn<V>(first, second, cosine, sine);
#pragma unroll
      for (int k = 0; k < V; ++k) both[2 * k] = first[k], both[2 * k + 1] = second[k];
      if constexpr (V == 1)
        at[0] = narrow<T>(both[0]), at[1] = narrow<T>(both[1]);
      else
        store<2 * V>(at, both);
    }
  }
};

}  // namespace

void rotary_table(exec& ex, const rotary_table_args& a) {
  const int64_t n = a.table.shape[1] / 2;
  launch_for_each<1>(ex, "rotary_table", a.table.shape[0], n,
                     table_entry{a.table.as<float>(), a.positions.as<int32_t>(), a.inverse_frequency,
                                 a.attention_factor, static_cast<int>(n)});
}

void rotary(exec& ex, const rotary_args& a) {
  const int64_t n = a.table.shape[1] / 2, heads = a.x.shape[1];
  if (n == 0) return;
  // Only the strides of x and n must be whole vectors: head_dim may be any number behind them.
  const bool wide = n % vector_width == 0 && in_vectors(a.x.data) && in_vectors(a.table.data) &&
                    a.x.stride[0] % vector_width == 0 && a.x.stride[1] % vector_width == 0;
  with_float(a.x.type, [&](auto element) {
    with_width(wide, [&](auto v) {
      using T = decltype(element);
      launch_for_each<v.value>(ex, "rotary", a.x.shape[0], heads * n,
                               turn_pairs<T, v.value>{heads_of<T>(a.x), a.table.as<const float>(), static_cast<int>(n),
                                                      a.style == rotary_style::half});
    });
  });
}

}  // namespace ft::cuda
