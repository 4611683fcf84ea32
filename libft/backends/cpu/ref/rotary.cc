// The oracle for rotary_table and rotary.
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {

void rotary_table(exec&, const rotary_table_args& a) {
  const int64_t n = a.table.shape[1] / 2;
  for (int64_t t = 0; t < a.table.shape[0]; ++t) {
    float* cosine = a.table.as<float>() + t * 2 * n;
    for (int64_t i = 0; i < n; ++i) {
      const float angle = static_cast<float>(a.positions.as<int32_t>()[t]) * a.inverse_frequency[i];
      cosine[i] = static_cast<float>(a.attention_factor * std::cos(double{angle}));
      cosine[n + i] = static_cast<float>(a.attention_factor * std::sin(double{angle}));
    }
  }
}

void rotary(exec&, const rotary_args& a) {
  const int64_t n = a.table.shape[1] / 2;
  const bool half = a.style == rotary_style::half;
  for (int64_t t = 0; t < a.x.shape[0]; ++t)
    for (int64_t h = 0; h < a.x.shape[1]; ++h) {
      float* x = a.x.as<float>() + t * a.x.stride[0] + h * a.x.stride[1];
      const float* cosine = a.table.as<float>() + t * 2 * n;
      const float* sine = cosine + n;
      for (int64_t i = 0; i < n; ++i) {
        float& first = x[half ? i : 2 * i];
        float& second = x[half ? i + n : 2 * i + 1];
        const double u = first, v = second;
        first = static_cast<float>(u * cosine[i] - v * sine[i]);
        second = static_cast<float>(v * cosine[i] + u * sine[i]);
      }
    }
}

}  // namespace ft::cpu::ref
