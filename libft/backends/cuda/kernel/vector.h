// Elements on the device: conversion to and from float32, loads and stores of several at once, and the view of a
// tensor's rows that kernels take.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/tensor.h"

namespace ft::cuda {

template <class T>
struct row_view {
  T* data = nullptr;
  int64_t stride = 0;  // in elements

  __host__ __device__ T* at(int64_t row, int64_t column = 0) const { return data + row * stride + column; }
  __host__ __device__ explicit operator bool() const { return data != nullptr; }
};

// Of [rows, width]; null stays null.
template <class T>
row_view<T> rows_of(const tensor& t) {
  return {t.as<T>(), t.stride[0]};
}

// Of [rows, heads, width], or of [rows, width] with one head.
template <class T>
struct head_view {
  T* data = nullptr;
  int64_t row_stride = 0, head_stride = 0;

  __host__ __device__ T* at(int64_t row, int64_t head) const { return data + row * row_stride + head * head_stride; }
  __host__ __device__ explicit operator bool() const { return data != nullptr; }
};

template <class T>
head_view<T> heads_of(const tensor& t) {
  return {t.as<T>(), t.stride[0], t.rank == 3 ? t.stride[1] : 0};
}

#ifdef __CUDACC__

__device__ inline float widen(float x) { return x; }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// To the nearest, ties to even.
template <class T>
__device__ inline T narrow(float x);
template <>
__device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// 2^x and 1/x within about two units in the last place; denormal results are zero.
__device__ inline float exp2_of(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float reciprocal_of(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Asks for the 32 bytes around `from` to come to the second-level cache.
__device__ inline void prefetch(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(__cvta_generic_to_global(from)));
}

// N elements that are loaded and stored together, 16 bytes at a time where there are as many.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) pack {
  T at[N];
};

// V elements from `from`, which is aligned for them.
template <int V, class T>
__device__ inline void load(const T* from, float (&to)[V]) {
  const pack<T, V> p = *reinterpret_cast<const pack<T, V>*>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = widen(p.at[i]);
}

template <int V, class T>
__device__ inline void store(T* to, const float (&from)[V]) {
  pack<T, V> p;
#pragma unroll
  for (int i = 0; i < V; ++i) p.at[i] = narrow<T>(from[i]);
  *reinterpret_cast<pack<T, V>*>(to) = p;
}

#endif

}  // namespace ft::cuda
