// The instructions that copy tiles of a mapped matrix to shared memory (PTX ISA, "cp.async.bulk.tensor"), and the
// barriers (PTX ISA, "mbarrier") by which the thread that asks for copies and the warps that use them agree on the
// stages of a ring. Compute capability 9.0 and newer.
#pragma once

#include "backends/cuda/gemm/tiled_tensor_map.h"
#include "backends/cuda/kernel/hopper.h"

namespace ft::cuda {

#if __CUDA_ARCH__ >= 900

// What the second-level cache is told of the bytes: the encoding of createpolicy's evict_first and evict_last with
// fraction 1.
inline constexpr uint64_t read_once = 0x12f0000000000000, read_often = 0x14f0000000000000;

// The map's slabs of a tile from (row, column) on; the barrier counts their bytes.
__device__ inline void tma_load(void* to, const tiled_tensor_map& from, int column, int row, uint32_t barrier,
                                uint64_t policy) {
  const bool whole = from.whole_slabs;
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%2, "
      "%3, %4}], [%5], %6;"
      :
      : "r"(shared_address(to)), "l"(&from.map), "r"(whole ? 0 : column), "r"(row), "r"(whole ? column / 64 : 0),
        "r"(barrier), "l"(policy)
      : "memory");
}

// So that the first copy need not wait for the map itself.
__device__ inline void prefetch_map(const tiled_tensor_map& tiles) { prefetch_map(tiles.map); }

// For the i-th use of a ring's stages, i counting on: weights_full(i) and rows_full(i) once their bytes have come,
// empty once each warp has released it.
struct stage_barriers {
  uint64_t* of;  // [3 stages] in shared memory
  int stages;

  __device__ uint64_t& weights_full(int i) const { return of[i % stages]; }
  __device__ uint64_t& rows_full(int i) const { return of[stages + i % stages]; }
  __device__ uint64_t& empty(int i) const { return of[2 * stages + i % stages]; }

  // By one thread, before a __syncthreads().
  __device__ void create(int warps) const {
    for (int s = 0; s < stages; ++s) {
      init_barrier(weights_full(s), 1);
      init_barrier(rows_full(s), 1);
      init_barrier(empty(s), warps);
    }
    publish_barriers();
    publish_stores();
  }
  __device__ void release(int i) const { arrive(empty(i)); }
  __device__ void await_weights(int i) const { mbarrier_wait(weights_full(i), i / stages % 2); }
  __device__ void await_rows(int i) const { mbarrier_wait(rows_full(i), i / stages % 2); }
  // Where the stage was in use before; at once where it was not.
  __device__ void await_empty(int i) const {
    if (i >= stages) mbarrier_wait(empty(i), (i / stages - 1) % 2);
  }
};

#endif

}  // namespace ft::cuda
