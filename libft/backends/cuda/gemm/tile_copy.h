// The instructions that copy tiles of a mapped matrix to shared memory (PTX ISA, "cp.async.bulk.tensor"), and the
// barriers (PTX ISA, "mbarrier") by which the thread that asks for copies and the warps that use them agree on the
// stages of a ring. Compute capability 9.0 and newer.
#pragma once

#include "backends/cuda/gemm/tile_map.h"
#include "backends/cuda/tensor_core.h"

namespace ft::cuda {

// What the second-level cache is told of the bytes: the encoding of createpolicy's evict_first and evict_last with
// fraction 1.
inline constexpr uint64_t read_once = 0x12f0000000000000, read_often = 0x14f0000000000000;

// The map's slabs of a tile from (row, column) on; the barrier counts their bytes.
__device__ inline void copy_tile(void* to, const tile_map& from, int column, int row, uint32_t barrier,
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
__device__ inline void prefetch_map(const tile_map& tiles) {
  asm volatile("prefetch.tensormap [%0];" : : "l"(&tiles.map) : "memory");
}

// For the i-th use of a ring's stages, i counting on: weights_full(i) and rows_full(i) once their bytes have come,
// empty once each warp has released it. Whoever has several copies under way expects their bytes first.
struct stage_barriers {
  uint64_t* of;  // [3 stages] in shared memory
  int stages;

  __device__ uint32_t weights_full(int i) const { return shared_address(of + i % stages); }
  __device__ uint32_t rows_full(int i) const { return shared_address(of + stages + i % stages); }
  __device__ uint32_t empty(int i) const { return shared_address(of + 2 * stages + i % stages); }

  // By one thread, before a __syncthreads().
  __device__ void create(int warps) const {
    for (int s = 0; s < stages; ++s) {
      asm volatile("mbarrier.init.shared.b64 [%0], 1;" : : "r"(weights_full(s)) : "memory");
      asm volatile("mbarrier.init.shared.b64 [%0], 1;" : : "r"(rows_full(s)) : "memory");
      asm volatile("mbarrier.init.shared.b64 [%0], %1;" : : "r"(empty(s)), "r"(warps) : "memory");
    }
    asm volatile("fence.mbarrier_init.release.cluster;" : : : "memory");
    asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
  }
  __device__ static void expect(uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" : : "r"(barrier), "r"(bytes) : "memory");
  }
  __device__ void release(int i) const {
    asm volatile("mbarrier.arrive.shared.b64 _, [%0];" : : "r"(empty(i)) : "memory");
  }
  __device__ void await_weights(int i) const { await(weights_full(i), i / stages % 2); }
  __device__ void await_rows(int i) const { await(rows_full(i), i / stages % 2); }
  // Where the stage was in use before; at once where it was not.
  __device__ void await_empty(int i) const {
    if (i >= stages) await(empty(i), (i / stages - 1) % 2);
  }

 private:
  __device__ static void await(uint32_t barrier, int parity) {
    asm volatile(
        "{\n .reg .pred done;\n again: mbarrier.try_wait.parity.shared.b64 done, [%0], %1;\n @!done bra again;\n}"
        :
        : "r"(barrier), "r"(parity)
        : "memory");
  }
};

}  // namespace ft::cuda
