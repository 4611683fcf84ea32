// The oracle for log_softmax.
#include <algorithm>
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {

void log_softmax(exec&, const log_softmax_args& a) {
  const int64_t width = a.x.shape[1];
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    const float* x = a.x.as<float>() + r * a.x.stride[0];
    float* out = a.out.as<float>() + r * a.out.stride[0];
    const double largest = *std::max_element(x, x + width);
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += std::exp(x[i] - largest);
    for (int64_t i = 0; i < width; ++i) out[i] = static_cast<float>(x[i] - largest - std::log(sum));
  }
}

}  // namespace ft::cpu::ref
