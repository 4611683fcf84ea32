// log_softmax: three sweeps over a row (maximum, sum of exponentials, difference).
#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/log_sum.h"
#include "backends/cpu/isa/parallel.h"

namespace ft::cpu::FT_ISA {

void log_softmax(exec& ex, const log_softmax_args& a) {
  const int64_t width = a.x.shape[1];
  share(ex, a.x.shape[0], 6 * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.x.as<float>() + r * a.x.stride[0];
      float* out = a.out.as<float>() + r * a.out.stride[0];
      const log_sum norm = log_sum_of(x, width);
      for_vectors(width, [&](int64_t i, auto n) { store(out + i, load(x + i, n) - norm.largest - norm.log, n); });
    }
  });
}

}  // namespace ft::cpu::FT_ISA
