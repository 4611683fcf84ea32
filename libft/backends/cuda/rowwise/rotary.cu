// rotary_table and rotary.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/rotary_pairs.h"

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

// V pairs of one head; columns count through the pairs of all heads of a token.
template <class T, int V>
struct turn_in_place {
  head_view<T> x;
  rotary_pairs pairs;

  __device__ void operator()(int64_t token, int column) const {
    T* head = x.at(token, column / pairs.n);
    pairs.turn<V>(token, column % pairs.n, static_cast<const T*>(head), head);
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
  const rotary_pairs pairs{a.table.as<float>(), static_cast<int>(n), a.style == rotary_style::half};
  with_float(a.x.type, [&](auto element) {
    with_width(wide, [&](auto v) {
      using T = decltype(element);
      launch_for_each<v.value>(ex, "rotary", a.x.shape[0], heads * n,
                               turn_in_place<T, v.value>{heads_of<T>(a.x), pairs});
    });
  });
}

}  // namespace ft::cuda
