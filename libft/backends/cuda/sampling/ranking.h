// A row's elements as whole numbers in the order in which argmax and top_k want them, and how rows are cut into parts
// that blocks look through side by side.
#pragma once

#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {

// Parts depend on the row's width alone, so that a row's result is the same to the bit whatever rows, and how many
// elements, are asked for beside it.
inline constexpr int part_threads = 256;

struct row_parts {
  explicit row_parts(int64_t width)
      : size(std::max<int64_t>(8 * part_threads, ceil_div(ceil_div(width, most), vector_width) * vector_width)),
        count(ceil_div(width, size)) {}

  static constexpr int64_t most = 64;
  int64_t size, count;  // elements of a part, whole vectors, the last part's aside; and how many parts there are

  // A block for each part of each row.
  dim3 grid(int64_t rows, const char* op) const {
    if (rows > 65535) fail(FT_ERROR_UNSUPPORTED, op, ": ", rows, " rows are too many for one call");
    return dim3(static_cast<unsigned>(count), static_cast<unsigned>(rows));
  }
};

#ifdef __CUDACC__

// The greater value first, of equal ones the lower index. No two of a row are equal; 0 is none, as a NaN is.
using ranked = unsigned long long;

__device__ inline ranked rank_of(float x, int index) {
  if (isnan(x)) return 0;
  const unsigned bits = __float_as_uint(x + 0.0f);  // one zero
  const unsigned ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<ranked>(ordered) << 32 | (0xffffffffu - static_cast<unsigned>(index));
}
__device__ inline float value_of(ranked r) {
  const auto ordered = static_cast<unsigned>(r >> 32);
  return r == 0 ? -INFINITY : __uint_as_float(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}
__device__ inline int index_of(ranked r) {
  return r == 0 ? -1 : static_cast<int>(0xffffffffu - static_cast<unsigned>(r));
}

// Every lane of a warp gets the greatest.
__device__ inline ranked warp_best(ranked mine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) mine = max(mine, __shfl_xor_sync(0xffffffffu, mine, distance));
  return mine;
}

// Every thread of a block of `Threads` gets the greatest. `of_warps` [Threads / 32], shared: free to be used by another
// call of this.
template <int Threads>
__device__ inline ranked block_best(ranked mine, ranked* of_warps) {
  mine = warp_best(mine);
  __syncthreads();  // an earlier call's readers are done
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = mine;
  __syncthreads();
#pragma unroll
  for (int warp = 0; warp < Threads / 32; ++warp) mine = max(mine, of_warps[warp]);
  return mine;
}

#endif

}  // namespace ft::cuda
