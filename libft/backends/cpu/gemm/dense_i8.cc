// Weights of type i8.
#include "backends/cpu/gemm/dense_multiply.h"
#include "backends/cpu/gemm/dense_pack.h"

namespace ft::cpu::FT_ISA {

template class dense_weight<i8_dot>;

}  // namespace ft::cpu::FT_ISA
