// What every launcher of a kernel needs: the stream, errors as ft::error, dispatch over the dtypes of activations and
// over vector widths, and the loop over a matrix's elements that the elementwise operations share.
//
// A launcher takes grid sizes from what the host knows (shapes) and leaves counts that the device holds to the kernel,
// so that every operation can be captured in a graph. It allocates nothing but from ex.scratch and waits for nothing.
#pragma once

#include <cuda_runtime_api.h>

#include <initializer_list>
#include <type_traits>

#include "backends/cuda/kernel/capabilities.h"
#include "backends/cuda/kernel/vector.h"
#include "ops/exec.h"

namespace ft::cuda {

inline cudaStream_t stream_of(exec& ex) { return static_cast<cudaStream_t>(ex.stream); }

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // it would be found again by the next launch
  fail(status == cudaErrorMemoryAllocation ? FT_ERROR_OUT_OF_MEMORY : FT_ERROR_INTERNAL, what, ": ",
       cudaGetErrorString(status));
}

// An attribute of the current device.
inline int device_attribute(cudaDeviceAttr what) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "asking for the GPU");
  check(cudaDeviceGetAttribute(&value, what, device), "asking for the GPU's properties");
  return value;
}

// Calls f with a value of the C++ type that has this dtype's elements.
template <class F>
void with_float(dtype type, F&& f) {
  switch (type) {
    case dtype::f32:
      return f(float{});
    case dtype::f16:
      return f(__half{});
    case dtype::bf16:
      return f(__nv_bfloat16{});
    default:
      fail(FT_ERROR_UNSUPPORTED, "CUDA kernels compute on float32, float16 and bfloat16, not ", name(type));
  }
}

// Elements a thread takes at once where everything is aligned: 16 bytes of a 16-bit type, two times 16 of float32.
inline constexpr int vector_width = 8;

// Whether rows of these tensors (those that are not null), and every n-th element of them, start at multiples of 16
// bytes and hold a whole number of `n` elements, n * element size being a multiple of 16 bytes.
inline bool in_vectors(std::initializer_list<const tensor*> tensors, int n = vector_width) {
  for (const tensor* t : tensors) {
    if (!t->data) continue;
    if (reinterpret_cast<uintptr_t>(t->data) % 16 || t->dim(-1) % n) return false;
    for (int i = 0; i + 1 < t->rank; ++i)
      if (t->shape[i] > 1 && t->stride[i] % n) return false;
  }
  return true;
}

inline bool in_vectors(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

template <int N>
using constant = std::integral_constant<int, N>;

// Calls f(constant<Wide>) or f(constant<1>).
template <int Wide = vector_width, class F>
void with_width(bool wide, F&& f) {
  if (wide)
    f(constant<Wide>{});
  else
    f(constant<1>{});
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline unsigned grid_size(int64_t blocks, const char* op) {
  if (blocks > 0x7fffffff) fail(FT_ERROR_UNSUPPORTED, op, ": ", blocks, " blocks of work are more than a grid holds");
  return static_cast<unsigned>(blocks);
}

// Has the current device load the kernel, which else its first launch would do, and could fail to.
void load_kernel(const void* kernel, const char* op);

#ifdef __CUDACC__

struct launch_shape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;     // blocks along x that share a cluster; 1: none
};

// Queues a kernel; in a rehearsal, has it loaded. On compute capability 9.0 and newer it comes onto the chip while the
// one before it ends (programmatic dependent launch), and so begins with await_previous_kernel().
template <class... P, class... A>
void launch_kernel(exec& ex, const char* op, const launch_shape& shape, void (*kernel)(P...), const A&... arguments) {
  if (ex.rehearses) return load_kernel(reinterpret_cast<const void*>(kernel), op);
  if (shape.shared_bytes > 48 * 1024)  // more has to be asked for
    check(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shape.shared_bytes)),
        op);
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream_of(ex);
  config.attrs = attributes;
  if (capabilities().dependent_launch) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs].val.clusterDim.x = shape.cluster;
    attributes[config.numAttrs].val.clusterDim.y = 1;
    attributes[config.numAttrs++].val.clusterDim.z = 1;
  }
  check(cudaLaunchKernelEx(&config, kernel, P(arguments)...), op);
}

// The next kernel may come and wait in turn; await_previous_kernel() says so too.
__device__ inline void admit_next_kernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// What every kernel calls first, before it reads or writes anything that another kernel writes or reads, and before any
// thread returns: else the kernel after it could start while the one before it still runs.
__device__ inline void await_previous_kernel() {
#if __CUDA_ARCH__ >= 900
  admit_next_kernel();
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

inline constexpr int elementwise_threads = 256;

// f(row, first column) for every vector of V columns of [rows, vectors * V].
template <int V, class F>
__global__ void __launch_bounds__(elementwise_threads) for_each_vector(unsigned count, unsigned vectors, F f) {
  await_previous_kernel();
  const unsigned i = blockIdx.x * elementwise_threads + threadIdx.x;
  if (i < count) f(static_cast<int64_t>(i / vectors), static_cast<int>(i % vectors) * V);
}

template <int V, class F>
void launch_for_each(exec& ex, const char* op, int64_t rows, int64_t width, F f) {
  const int64_t vectors = width / V, count = rows * vectors;
  if (count == 0) return;
  if (count > 0xffffffffLL - elementwise_threads)
    fail(FT_ERROR_UNSUPPORTED, op, ": ", rows, " rows of ", width, " are too many for one call");
  launch_kernel(ex, op, {grid_size(ceil_div(count, elementwise_threads), op), elementwise_threads},
                for_each_vector<V, F>, static_cast<unsigned>(count), static_cast<unsigned>(vectors), f);
}

#endif

}  // namespace ft::cuda
