// One level's kernels: the reference's, with every operation replaced that this level has.
#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/kernels.h"

namespace ft::cpu::FT_ISA {

kernels make_kernels() {
  kernels k = reference_kernels();
  k.pack = pack;
  k.ops.linear = linear;
  return k;
}

}  // namespace ft::cpu::FT_ISA
