// top_k: the best so far stay sorted in the result. Of a long row nearly every vector only takes part in one comparison
// with the last of them.
#include <algorithm>
#include <cmath>

#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/log_sum.h"
#include "backends/cpu/isa/parallel.h"

namespace ft::cpu::FT_ISA {
namespace {

struct best_of_row {
  float* value;
  int32_t* index;
  int64_t k;
  int64_t count = 0;

  // Whether x, coming after all others, is among the best: no NaN is.
  bool takes(float x) const { return count < k ? x == x : x > value[k - 1]; }

  // Behind its equals, which came before.
  void insert(float x, int32_t at) {
    const auto place = std::upper_bound(value, value + count, x, std::greater<>()) - value;
    count = std::min(count + 1, k);
    std::copy_backward(value + place, value + count - 1, value + count);
    std::copy_backward(index + place, index + count - 1, index + count);
    value[place] = x;
    index[place] = at;
  }
};

void find_best(const float* x, int64_t width, best_of_row best) {
  constexpr int64_t block = 4 * lanes;
  for (int64_t begin = 0; begin < width; begin += block) {
    const int64_t end = std::min(begin + block, width);
    if (best.count == best.k && end == begin + block) {
      vec largest = broadcast(-INFINITY);
      for (int64_t i = begin; i < end; i += lanes) largest = max(load(x + i), largest);  // passes over NaNs
      if (!best.takes(max(largest))) continue;
    }
    for (int64_t i = begin; i < end; ++i)
      if (best.takes(x[i])) best.insert(x[i], static_cast<int32_t>(i));
  }
  std::fill(best.value + best.count, best.value + best.k, -INFINITY);
  std::fill(best.index + best.count, best.index + best.k, -1);
}

}  // namespace

void top_k(exec& ex, const top_k_args& a) {
  const int64_t width = a.x.shape[1], k = a.value.shape[1];
  share(ex, a.x.shape[0], 6 * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* x = a.x.as<float>() + r * a.x.stride[0];
      a.log_sum.as<float>()[r] = log_sum_of(x, width, a.temperature ? a.temperature.as<float>()[r] : 1.0f).log;
      find_best(x, width, {a.value.as<float>() + r * k, a.index.as<int32_t>() + r * k, k});
    }
  });
}

}  // namespace ft::cpu::FT_ISA
