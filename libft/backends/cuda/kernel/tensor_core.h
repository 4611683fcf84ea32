// The instructions of matrix products on tensor cores, for compute capability 8.0 and newer: matrix products of 16-bit
// floats with float32 sums, the loads that feed them, and copies to shared memory that run beside the arithmetic.
//
// mma m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"): lane l, with row = l / 4 and pair = l % 4 * 2, holds
//   A [16, 16]  a[0] (row, pair)  a[1] (row + 8, pair)  a[2] (row, pair + 8)  a[3] (row + 8, pair + 8), two columns
//   each B [16, 8]   b[0] (pair, row)  b[1] (pair + 8, row), two rows each: as read from a matrix of columns C [16, 8]
//   c[0], c[1] (row, pair)  c[2], c[3] (row + 8, pair)
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace ft::cuda {

// c += a b
template <class T>
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t b0, const uint32_t b1);

#define FT_MMA(type, name)                                                                            \
  template <>                                                                                         \
  __device__ inline void multiply_add<type>(float (&c)[4], const uint32_t (&a)[4], const uint32_t b0, \
                                            const uint32_t b1) {                                      \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." name "." name                                        \
        ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                        \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                              \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                              \
  }
FT_MMA(__half, "f16")
FT_MMA(__nv_bfloat16, "bf16")
#undef FT_MMA

__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// Four 8 x 8 matrices of 16-bit elements; lanes 8 i .. 8 i + 7 name the eight rows of matrix i, 16 aligned bytes each.
__device__ inline void load_matrices(uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ inline void load_transposed(uint32_t (&m)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes to shared memory, or zeros; both addresses aligned.
__device__ inline void copy_async(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" : : : "memory"); }
// Waits until at most `Pending` of the groups committed last are under way.
template <int Pending>
__device__ inline void await_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(Pending) : "memory");
}

template <class T>
__device__ inline uint32_t pack_pair(float low, float high);
template <>
__device__ inline uint32_t pack_pair<__half>(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
template <>
__device__ inline uint32_t pack_pair<__nv_bfloat16>(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

}  // namespace ft::cuda
