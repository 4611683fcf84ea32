// sampling_threshold, every level's: the candidates nearly always suffice.
#include <algorithm>
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {
namespace {

struct element {
  float logit;  // x / t
  int32_t index;
};

constexpr auto more_likely = [](const element& a, const element& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
};

double weight_of(const element& e, const element& first) { return std::exp(double{e.logit} - double{first.logit}); }

// How many of `count` elements, sorted, are left; 0 where only more elements could tell. `total` is the sum of all
// weights of the row. `is_all`: no other element has one.
int64_t num_left(const element* sorted, int64_t count, bool is_all, const sampling_limits& by, double total) {
  const auto weight = [&](int64_t i) { return weight_of(sorted[i], sorted[0]); };
  int64_t left = count;
  if (by.top_k > 0) {
    const auto k = static_cast<int64_t>(by.top_k);
    if (k <= count) {
      for (left = k; left < count && sorted[left].logit == sorted[k - 1].logit;) ++left;
      is_all |= left < count;
    }
    total = 0;
    for (int64_t i = 0; i < left; ++i) total += weight(i);
    if (!is_all) return 0;
  }
  if (by.top_p < 1) {
    double mass = 0;
    int64_t nucleus = 0;
    while (nucleus < left && mass < by.top_p) mass += weight(nucleus++) / total;
    is_all |= mass >= by.top_p;
    left = std::max<int64_t>(nucleus, 1);
  }
  if (by.min_p > 0) {
    const int64_t before = left;
    while (left > 1 && weight(left - 1) < by.min_p) --left;
    is_all |= left < before;
  }
  return is_all ? left : 0;
}

}  // namespace

void sampling_threshold(exec& ex, const sampling_threshold_args& a) {
  const int64_t width = a.x.shape[1], k = a.value.shape[1];
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    arena::scope scope(ex.scratch);
    const float t = a.temperature.as<float>()[r];
    auto* found = ex.scratch.make<element>(std::max(width, k));
    int64_t count = 0;
    const auto take = [&](float x, int64_t index) {
      if (x > -INFINITY) found[count++] = {x / t, static_cast<int32_t>(index)};
    };
    for (int64_t j = 0; j < k; ++j) take(a.value.as<float>()[r * k + j], a.index.as<int32_t>()[r * k + j]);
    int64_t left = 0;
    if (count > 0) {
      const auto& by = a.by.as<sampling_limits>()[r];
      std::sort(found, found + count, more_likely);
      left = num_left(found, count, count < k, by, std::exp(double{a.log_sum.as<float>()[r]}));
      if (left == 0) {
        count = 0;
        for (int64_t i = 0; i < width; ++i) take(a.x.as<float>()[r * a.x.stride[0] + i], i);
        std::sort(found, found + count, more_likely);
        double total = 0;
        for (int64_t i = 0; i < count; ++i) total += weight_of(found[i], found[0]);
        left = num_left(found, count, true, by, total);
      }
    }
    a.least.as<float>()[r] = left > 0 ? found[left - 1].logit : -INFINITY;
    a.last.as<int32_t>()[r] = left > 0 ? found[left - 1].index : -1;
  }
}

}  // namespace ft::cpu::ref
