// Quantisation of activations; see the header.
#include "backends/cpu/gemm/quantised_activations.h"

namespace ft::cpu::FT_ISA::quantised {
namespace {

constexpr int vectors = quant_block / lanes;
typedef int8_t small_signed __attribute__((vector_size(lanes)));

FT_INLINE int32_t total(ivec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_epi32((__m512i)x);
#else
  int32_t sum = 0;
  for (int i = 0; i < lanes; ++i) sum += x[i];
  return sum;
#endif
}

FT_INLINE int32_t largest(ivec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_epi32((__m512i)x);
#else
  int32_t most = x[0];
  for (int i = 1; i < lanes; ++i) most = x[i] > most ? x[i] : most;
  return most;
#endif
}

// The bits of the largest magnitude: as integers, magnitudes are in order and NaNs come last.
FT_INLINE float largest_magnitude(const float* x) {
  ivec most = bits_of(load(x)) & 0x7fffffff;
  for (int v = 1; v < vectors; ++v) {
    const ivec bits = bits_of(load(x + v * lanes)) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return std::bit_cast<float>(largest(most));
}

// `remainder` [quant_block] gets x less what the block stands for; it may be x.
FT_INLINE void quantise_block(const float* x, int zero_point, bool halves, activation_block& out, float* remainder) {
  constexpr float smallest = 127 * 0x1p-127f;  // 127 / smallest is finite
  constexpr float to_integer = 0x1.8p23f;      // adding it rounds to an integer in the low bits
  const float most = largest_magnitude(x);
  const float inverse = most >= smallest ? 127 / most : 0;
  out.scale = most / 127;
  ivec sum[2] = {};
  for (int v = 0; v < vectors; ++v) {
    // The bounds matter for infinities and NaNs alone, whose bytes may be any.
    const vec value = load(x + v * lanes);
    const vec bounded = max(min(value * inverse, broadcast(127.0f)), broadcast(-127.0f));
    const ivec q = bits_of(bounded + to_integer) - std::bit_cast<int32_t>(to_integer);
    const small_signed narrow = __builtin_convertvector(q, small_signed);
    std::memcpy(out.q + v * lanes, &narrow, sizeof narrow);
    sum[v * 2 / vectors] += q;
    store(remainder + v * lanes, fma(broadcast(-out.scale), __builtin_convertvector(q, vec), value));
  }
  const int32_t first = total(sum[0]), second = total(sum[1]);
  out.sum = out.scale * static_cast<float>(first + second);
  out.start[0] = -zero_point * (halves ? first : first + second);
  out.start[1] = -zero_point * second;
}

}  // namespace

void quantise_row(const float* x, int64_t blocks, int zero_point, bool halves, activation_block* out, int64_t stride) {
  alignas(64) float remainder[quant_block];
  for (int64_t b = 0; b < blocks; ++b) {
    const float* term = x + b * quant_block;
    for (int t = 0; t < terms; ++t, term = remainder)
      quantise_block(term, zero_point, halves, out[b * stride + t], remainder);
  }
}

}  // namespace ft::cpu::FT_ISA::quantised
