// Weights of type f16.
#include "backends/cpu/gemm/dense_multiply.h"
#include "backends/cpu/gemm/dense_pack.h"

namespace ft::cpu::FT_ISA {

template class dense_weight<f16_dot>;

}  // namespace ft::cpu::FT_ISA
