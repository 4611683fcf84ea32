// The oracle for add, scale and gather_rows.
#include <cmath>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {

void add(exec&, const add_args& a) {
  for (int64_t r = 0; r < a.a.shape[0]; ++r)
    for (int64_t i = 0; i < a.a.shape[1]; ++i)
      a.out.as<float>()[r * a.out.stride[0] + i] =
          a.a.as<float>()[r * a.a.stride[0] + i] + a.b.as<float>()[r * a.b.stride[0] + i];
}

void scale(exec&, const scale_args& a) {
  for (int64_t r = 0; r < a.x.shape[0]; ++r)
    for (int64_t i = 0; i < a.x.shape[1]; ++i) {
      double y = double{a.scale} * a.x.as<float>()[r * a.x.stride[0] + i];
      if (a.softcap > 0) y = a.softcap * std::tanh(y / a.softcap);
      a.out.as<float>()[r * a.out.stride[0] + i] = static_cast<float>(y);
    }
}

void gather_rows(exec&, const gather_rows_args& a) {
  for (int64_t r = 0; r < a.out.shape[0]; ++r) {
    const int32_t from = a.index.as<int32_t>()[r];
    for (int64_t i = 0; i < a.out.shape[1]; ++i)
      a.out.as<float>()[r * a.out.stride[0] + i] = from < 0 ? 0.0f : a.x.as<float>()[from * a.x.stride[0] + i];
  }
}

}  // namespace ft::cpu::ref
