// sample, every level's: the sums are in double, one after another, as decode/sampler.h takes them. What lies beyond a
// threshold costs one comparison.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "backends/cpu/ref/ref_ops.h"
#include "core/first_largest.h"

namespace ft::cpu::ref {
namespace {

// Those elements of a row that may be drawn.
int64_t find_left(int32_t* found, const float* x, int64_t width, float t, float least, int32_t last) {
  // Division rounds: a little less than what gives `least` may give it too.
  const float limit = least * t, below = limit - std::fabs(limit) * 1e-6f - std::numeric_limits<float>::min();
  int64_t count = 0;
  for (int64_t i = 0; i < width; ++i) {
    if (!(x[i] >= below)) continue;  // NaNs too
    const float l = x[i] / t;
    if (x[i] > -INFINITY && (l > least || (l == least && i <= last))) found[count++] = static_cast<int32_t>(i);
  }
  return count;
}

}  // namespace

void sample(exec& ex, const sample_args& a) {
  const int64_t width = a.x.shape[1];
  arena::scope scope(ex.scratch);
  auto* found = ex.scratch.make<int32_t>(width);
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    const float* x = a.x.as<float>() + r * a.x.stride[0];
    const float t = a.temperature.as<float>()[r], least = a.least ? a.least.as<float>()[r] : -INFINITY;
    const std::span left(
        found, static_cast<size_t>(find_left(found, x, width, t, least, a.least ? a.last.as<int32_t>()[r] : 0)));
    int32_t& token = a.token.as<int32_t>()[r];
    float &log_prob = a.log_prob.as<float>()[r], &logit = a.logit.as<float>()[r];
    if (left.empty()) {
      token = first_largest({x, static_cast<size_t>(width)});
      log_prob = 0;
      logit = token < 0 ? NAN : x[token];
      continue;
    }
    const float highest = x[*std::ranges::max_element(left, {}, [x](int32_t i) { return x[i]; })] / t;
    const auto weight = [&](int32_t i) { return std::exp(double{x[i] / t - highest}); };
    double sum = 0;
    for (int32_t i : left) sum += weight(i);
    double remaining = a.uniform.as<double>()[r] * sum, drawn = 0;
    for (int32_t i : left) {
      const double w = weight(i);
      if (w == 0) continue;
      token = i;
      drawn = w;
      remaining -= w;
      if (remaining < 0) break;
    }
    log_prob = static_cast<float>(std::log(drawn / sum));
    logit = x[token];
  }
}

}  // namespace ft::cpu::ref
