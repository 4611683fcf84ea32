// A vector of float32 lanes and the functions that the kernels are made of, compiled once per instruction set into
// its namespace: 16 lanes with AVX-512, 8 with AVX2, 4 by the compiler's own vectors on any other processor.
//
// vec is a plain compiler vector: + - * / and comparisons are operators, and intrinsics accept it as it is.
//
// exp, tanh, erf and sigmoid reduce the argument as W. J. Cody and W. Waite, "Software Manual for the Elementary
// Functions" (1980), do; the polynomials are weighted minimax fits (Lawson's algorithm) computed for this file.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#if !defined(__clang__)  // GCC 12 takes the undefined operands inside its own intrinsics for mistakes of ours
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

#include "core/half.h"

#define FT_INLINE inline __attribute__((always_inline))

namespace ft::cpu::FT_ISA {

#if defined(__AVX512F__)
inline constexpr int lanes = 16;
#elif defined(__AVX2__)
inline constexpr int lanes = 8;
#else
inline constexpr int lanes = 4;
#endif

typedef float vec __attribute__((vector_size(lanes * 4)));
typedef int32_t ivec __attribute__((vector_size(lanes * 4)));
typedef uint32_t uvec __attribute__((vector_size(lanes * 4)));
typedef uint16_t hvec __attribute__((vector_size(lanes * 2)));  // as many 16-bit values

FT_INLINE vec broadcast(float x) { return x - vec{}; }
FT_INLINE ivec broadcast(int32_t x) { return x - ivec{}; }
FT_INLINE vec zero() { return vec{}; }
FT_INLINE ivec iota() {
  ivec v;
  for (int i = 0; i < lanes; ++i) v[i] = i;
  return v;
}

FT_INLINE ivec bits_of(vec x) { return std::bit_cast<ivec>(x); }
FT_INLINE vec float_of(ivec bits) { return std::bit_cast<vec>(bits); }

// ---- memory: whole vectors, or the first n < lanes (the rest read as zero, and is not touched when storing) ----

template <class V = vec, class T>
FT_INLINE V load_bits(const T* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

FT_INLINE vec load(const float* p) { return load_bits(p); }
FT_INLINE void store(float* p, vec x) { std::memcpy(p, &x, sizeof x); }

FT_INLINE vec load(const float* p, int n) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p);
#elif defined(__AVX2__)
  return _mm256_maskload_ps(p, (__m256i)(iota() < n));
#else
  vec x = zero();
  for (int i = 0; i < n; ++i) {
    float element;
    std::memcpy(&element, p + i, sizeof element);  // files align nothing
    x[i] = element;
  }
  return x;
#endif
}

FT_INLINE void store(float* p, vec x, int n) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), x);
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, (__m256i)(iota() < n), x);
#else
  for (int i = 0; i < n; ++i) p[i] = x[i];
#endif
}

// ---- 16-bit floats ----

FT_INLINE vec widen(hvec bits, bf16) {
#if defined(__AVX512F__)
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(std::bit_cast<__m256i>(bits)), 16));
#elif defined(__AVX2__)
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(std::bit_cast<__m128i>(bits)), 16));
#else
  return float_of(__builtin_convertvector(bits, ivec) << 16);
#endif
}

FT_INLINE vec widen(hvec bits, f16) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(std::bit_cast<__m256i>(bits));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(std::bit_cast<__m128i>(bits));
#else
  vec x;
  for (int i = 0; i < lanes; ++i) x[i] = to_float(f16{bits[i]});
  return x;
#endif
}

// To the nearest, ties to even, as the scalar conversions do; NaNs stay NaNs.
FT_INLINE hvec narrow(vec x, bf16) {
  const uvec bits = std::bit_cast<uvec>(x);  // unsigned: a NaN's bits may overflow, and are not taken
  const uvec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uvec kept = (bits >> 16) | 0x40;
  return __builtin_convertvector(x == x ? rounded : kept, hvec);
}

FT_INLINE hvec narrow(vec x, f16) {
#if defined(__AVX512F__)
  return std::bit_cast<hvec>(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
  return std::bit_cast<hvec>(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
  hvec h;
  for (int i = 0; i < lanes; ++i) h[i] = from_float<f16>(x[i]).bits;
  return h;
#endif
}

template <class T>
FT_INLINE vec load(const T* p) {
  return widen(load_bits<hvec>(p), T{});
}

template <class T>
FT_INLINE vec load(const T* p, int n) {
  hvec bits{};
  std::memcpy(&bits, p, static_cast<size_t>(n) * sizeof(T));
  return widen(bits, T{});
}

template <class T>
FT_INLINE void store(T* p, vec x) {
  const hvec bits = narrow(x, T{});
  std::memcpy(p, &bits, sizeof bits);
}

template <class T>
FT_INLINE void store(T* p, vec x, int n) {
  const hvec bits = narrow(x, T{});
  std::memcpy(p, &bits, static_cast<size_t>(n) * sizeof(T));
}

// Calls body(i, whole) for i = 0, lanes, 2 lanes .. below n, and body(i, left) for what is left over: the second
// argument is std::true_type-like (`whole_vector`) or the number of lanes left, and load/store take either.
struct whole_vector {};
template <class T>
FT_INLINE vec load(const T* p, whole_vector) {
  return load(p);
}
template <class T>
FT_INLINE void store(T* p, vec x, whole_vector) {
  store(p, x);
}

template <class Body>
FT_INLINE void for_vectors(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) body(i, whole_vector{});
  if (i < n) body(i, static_cast<int>(n - i));
}

// ---- arithmetic ----

// a b + c, in one rounding where the processor can.
FT_INLINE vec fma(vec a, vec b, vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__FP_FAST_FMAF)
  for (int i = 0; i < lanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#else
  return a * b + c;
#endif
}

// A NaN in b is kept, one in a is not.
FT_INLINE vec max(vec a, vec b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

FT_INLINE vec min(vec a, vec b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return a < b ? a : b;
#endif
}

FT_INLINE vec abs(vec x) { return float_of(bits_of(x) & 0x7fffffff); }
FT_INLINE vec copysign(vec magnitude, vec sign) {
  return float_of(bits_of(abs(magnitude)) | (bits_of(sign) & INT32_MIN));
}

// Folds the upper half of the lanes onto the lower until one is left: always in the same order.
template <class Combine>
FT_INLINE float fold(vec x, Combine combine) {
  float v[lanes];
  std::memcpy(v, &x, sizeof x);
  for (int half = lanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) v[i] = combine(v[i], v[i + half]);
  return v[0];
}

FT_INLINE float sum(vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(x);
#else
  return fold(x, [](float a, float b) { return a + b; });
#endif
}

FT_INLINE float max(vec x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(x);
#else
  return fold(x, [](float a, float b) { return a > b ? a : b; });
#endif
}

// One step of a transposition: swaps lanes with bit `bit` set in a for lanes without it in b.
template <int bit, int... i>
FT_INLINE void exchange(vec& a, vec& b, std::integer_sequence<int, i...>) {
  const vec low = __builtin_shufflevector(a, b, (i & bit ? lanes + i - bit : i)...);
  b = __builtin_shufflevector(a, b, (i & bit ? lanes + i : i + bit)...);
  a = low;
}

// rows[i][j] becomes rows[j][i], for lanes x lanes elements.
template <int bit = lanes / 2>
FT_INLINE void transpose(vec (&rows)[lanes]) {
  for (int i = 0; i < lanes; ++i)
    if (!(i & bit)) exchange<bit>(rows[i], rows[i | bit], std::make_integer_sequence<int, lanes>{});
  if constexpr (bit > 1) transpose<bit / 2>(rows);
}

// ---- elementary functions ----

template <int n>
FT_INLINE vec polynomial(vec x, const float (&coefficient)[n]) {
  vec y = broadcast(coefficient[n - 1]);
  for (int i = n - 2; i >= 0; --i) y = fma(y, x, broadcast(coefficient[i]));
  return y;
}

// x = n ln 2 + r with |r| <= ln 2 / 2; the fraction is e^r - 1, to 3e-9 before rounding.
struct reduced {
  vec n;
  vec fraction;
};

FT_INLINE reduced reduce_exp(vec x) {
  constexpr float to_integer = 0x1.8p23f;  // adding it pushes the fraction's bits out
  const vec n = fma(x, broadcast(0x1.715476p0f), broadcast(to_integer)) - to_integer;
  vec r = fma(n, broadcast(-0x1.62e4p-1f), x);  // ln 2 in two parts; n times the first is exact
  r = fma(n, broadcast(-0x1.7f7d1cp-20f), r);
  constexpr float q[] = {4.999999404e-01f, 1.666652113e-01f, 4.166838899e-02f, 8.368745446e-03f, 1.381454058e-03f};
  return {n, fma(r * r, polynomial(r, q), r)};
}

// 2^n for whole -126 <= n <= 127.
FT_INLINE vec power_of_two(vec n) { return float_of((__builtin_convertvector(n, ivec) + 127) << 23); }

// e^x: relative error below 2e-7; 0 and infinity at the ends of the range, NaN for NaN.
FT_INLINE vec exp(vec x) {
  const reduced e = reduce_exp(min(broadcast(89.0f), max(broadcast(-104.0f), x)));
  const vec y = e.fraction + 1.0f;
#if defined(__AVX512F__)
  return _mm512_scalef_ps(y, e.n);
#else
  const vec half = __builtin_convertvector(__builtin_convertvector(e.n * 0.5f, ivec), vec);  // reaches subnormals
  return y * power_of_two(half) * power_of_two(e.n - half);
#endif
}

// e^x - 1 for x <= 0, to a few ulp also near zero.
FT_INLINE vec expm1_negative(vec x) {
  const reduced e = reduce_exp(max(broadcast(-40.0f), x));
  const vec scale = power_of_two(e.n);
  return fma(e.fraction, scale, scale - 1.0f);
}

FT_INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exp(-x)); }

FT_INLINE vec tanh(vec x) {
  const vec t = expm1_negative(-2.0f * abs(x));
  return copysign(-t / (t + 2.0f), x);
}

// g(x) = -log erfc(x) for x >= 0. The fit weighs the error by its effect on erf, on [0, 4.2]; beyond, g only grows.
FT_INLINE vec minus_log_erfc(vec x) {
  constexpr float h[] = {1.128379226e+00f, 6.366164684e-01f, 1.028144211e-01f,  -1.932175457e-02f,
                         2.057680831e-04f, 1.251710346e-03f, -3.809881746e-04f, 4.070627256e-05f};
  return x * polynomial(x, h);
}

// erf(x) = sign(x) (1 - e^-g(|x|)): relative and absolute error below 2e-7.
FT_INLINE vec erf(vec x) { return copysign(-expm1_negative(-minus_log_erfc(abs(x))), x); }

}  // namespace ft::cpu::FT_ISA
