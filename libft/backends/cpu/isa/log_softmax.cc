// log_softmax: three sweeps over a row (maximum, sum of exponentials, difference), the first two in a vector's lanes.
#include <cmath>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/isa/simd.h"

namespace ft::cpu::FT_ISA {
namespace {

// A partial vector's missing lanes must neither be the maximum nor add to the sum.
template <class Count>
FT_INLINE vec load_or_nothing(const float* x, Count count) {
  if constexpr (std::is_same_v<Count, int>)
    return iota() < count ? load(x, count) : broadcast(-INFINITY);
  else
    return load(x, count);
}

void log_softmax_row(const float* x, float* out, int64_t width) {
  vec largest = broadcast(-INFINITY), sum = zero();
  for_vectors(width, [&](int64_t i, auto n) { largest = max(largest, load_or_nothing(x + i, n)); });
  const float shift = max(largest);
  for_vectors(width, [&](int64_t i, auto n) { sum += exp(load_or_nothing(x + i, n) - shift); });
  const float norm = std::log(FT_ISA::sum(sum));
  for_vectors(width, [&](int64_t i, auto n) { store(out + i, load(x + i, n) - shift - norm, n); });
}

}  // namespace

void log_softmax(exec& ex, const log_softmax_args& a) {
  share(ex, a.x.shape[0], 6 * a.x.shape[1], [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      log_softmax_row(a.x.as<float>() + r * a.x.stride[0], a.out.as<float>() + r * a.out.stride[0], a.x.shape[1]);
  });
}

}  // namespace ft::cpu::FT_ISA
