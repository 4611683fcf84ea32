// One level's vector functions behind plain pointers.
#include "ops/isa/simd_probe.h"

#include "backends/cpu/isa/activate.h"

namespace ft::test::FT_ISA {
namespace {

namespace simd = cpu::FT_ISA;
using simd::vec;

vec call(function f, vec x) {
  switch (f) {
    case function::exp:
      return simd::exp(x);
    case function::tanh:
      return simd::tanh(x);
    case function::erf:
      return simd::erf(x);
    case function::sigmoid:
      return simd::sigmoid(x);
    case function::gelu:
      return simd::gelu(x);
    case function::gelu_tanh:
      return simd::gelu_tanh(x);
  }
  return x;
}

void apply(function f, const float* x, float* y, int64_t n) {
  simd::for_vectors(n, [&](int64_t i, auto count) { simd::store(y + i, call(f, simd::load(x + i, count)), count); });
}

template <class From, class To>
void convert(const From* x, To* y, int64_t n) {
  simd::for_vectors(n, [&](int64_t i, auto count) { simd::store(y + i, simd::load(x + i, count), count); });
}

void transpose(const float* x, float* y) {
  vec rows[simd::lanes];
  for (int i = 0; i < simd::lanes; ++i) rows[i] = simd::load(x + i * simd::lanes);
  simd::transpose(rows);
  for (int i = 0; i < simd::lanes; ++i) simd::store(y + i * simd::lanes, rows[i]);
}

}  // namespace

simd_probe probe() {
  return {simd::lanes,
          apply,
          convert<f16, float>,
          convert<bf16, float>,
          convert<float, f16>,
          convert<float, bf16>,
          [](const float* x) { return simd::sum(simd::load(x)); },
          [](const float* x) { return simd::max(simd::load(x)); },
          transpose};
}

}  // namespace ft::test::FT_ISA
