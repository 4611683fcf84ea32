// sample, every level's: the sums are in double, one after another, as decode/sampler.h takes them.
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"
#include "core/first_largest.h"

namespace ft::cpu::ref {

void sample(exec&, const sample_args& a) {
  const int64_t width = a.x.shape[1];
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    const float* x = a.x.as<float>() + r * a.x.stride[0];
    int32_t& token = a.token.as<int32_t>()[r];
    float &log_prob = a.log_prob.as<float>()[r], &logit = a.logit.as<float>()[r];
    token = first_largest({x, static_cast<size_t>(width)});
    log_prob = 0;
    logit = token < 0 ? NAN : x[token];
    if (token < 0 || x[token] == -INFINITY) continue;
    const float t = a.temperature.as<float>()[r], highest = x[token] / t;
    const float least = a.least ? a.least.as<float>()[r] : -INFINITY;
    const int64_t last = a.least ? a.last.as<int32_t>()[r] : width;
    const auto weight = [&](int64_t i) {
      const float l = x[i] / t;
      return x[i] > -INFINITY && (l > least || (l == least && i <= last)) ? std::exp(double{l - highest}) : 0;
    };
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += weight(i);
    double remaining = a.uniform.as<double>()[r] * sum, drawn = 0;
    for (int64_t i = 0; i < width && remaining >= 0; ++i)
      if (const double w = weight(i); w > 0) {
        token = static_cast<int32_t>(i);
        drawn = w;
        remaining -= w;
      }
    log_prob = static_cast<float>(std::log(drawn / sum));
    logit = x[token];
  }
}

}  // namespace ft::cpu::ref
