// The oracle for top_k.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {

void top_k(exec&, const top_k_args& a) {
  const int64_t width = a.x.shape[1], k = a.value.shape[1];
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    const float* x = a.x.as<float>() + r * a.x.stride[0];
    std::vector<int32_t> order;
    for (int64_t i = 0; i < width; ++i)
      if (!std::isnan(x[i])) order.push_back(static_cast<int32_t>(i));
    std::stable_sort(order.begin(), order.end(), [x](int32_t i, int32_t j) { return x[i] > x[j]; });
    const double largest = order.empty() ? NAN : double{x[order[0]]};
    const double t = a.temperature ? a.temperature.as<float>()[r] : 1;
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += std::exp((x[i] - largest) / t);
    a.log_sum.as<float>()[r] = static_cast<float>(std::log(sum));
    for (int64_t j = 0; j < k; ++j) {
      const bool is_there = j < static_cast<int64_t>(order.size());
      const int32_t index = is_there ? order[static_cast<size_t>(j)] : -1;
      a.index.as<int32_t>()[r * k + j] = index;
      a.value.as<float>()[r * k + j] = is_there ? x[index] : -INFINITY;
    }
  }
}

}  // namespace ft::cpu::ref
