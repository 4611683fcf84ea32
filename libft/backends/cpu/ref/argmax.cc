// argmax, every level's: one comparison an element leaves nothing to be faster at than memory.
#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {

void argmax(exec&, const argmax_args& a) {
  for (int64_t r = 0; r < a.x.shape[0]; ++r) {
    const float* x = a.x.as<float>() + r * a.x.stride[0];
    int32_t best = -1;
    for (int64_t i = 0; i < a.x.shape[1]; ++i)
      if (best < 0 ? x[i] == x[i] : x[i] > x[best]) best = static_cast<int32_t>(i);
    a.out.as<int32_t>()[r] = best;
  }
}

}  // namespace ft::cpu::ref
