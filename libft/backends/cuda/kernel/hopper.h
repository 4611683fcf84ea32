// What compute capability 9.0 adds to tensor_core.h: barriers in shared memory that count arriving bytes, copies of
// whole tiles by the tensor memory accelerator, and products of a warpgroup's 64 rows whose right side (and left side,
// if wanted) is read from shared memory (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
//
// Tiles lie in panels of 64 columns, 128 bytes a row, the eight 16-byte pieces of row r exchanged by r % 8 (the
// 128-byte swizzle that copies and products share). A panel begins at a multiple of 1024 bytes.
#pragma once

#include <cuda.h>

#include "backends/cuda/kernel/tensor_core.h"

namespace ft::cuda {

#if __CUDA_ARCH__ >= 900

__device__ inline void init_barrier(uint64_t& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}
// After init_barrier, before other threads and copies use them.
__device__ inline void publish_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void arrive(uint64_t& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}
// Arrives and has the phase wait for this many bytes too.
__device__ inline void arrive_expecting(uint64_t& barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
}
// Waits for the end of a phase of this parity; the one before the first has parity 1.
__device__ inline void mbarrier_wait(uint64_t& barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n}" ::"r"(shared_address(&barrier)),
      "r"(parity)
      : "memory");
}

// A stage of a ring of barriers, and the parity of its use.
struct ring_place {
  int stage = 0, parity = 0;

  __device__ void advance(int stages) {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

__device__ inline void prefetch_map(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(&map)) : "memory");
}
// A box of a tensor of three axes that begins at (x, y, z); x is the innermost. Zeros stand for what is outside.
__device__ inline void tma_load(void* to, const CUtensorMap& map, int x, int y, int z, uint64_t& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], "
      "[%5];" ::"r"(shared_address(to)),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(x), "r"(y), "r"(z), "r"(shared_address(&barrier))
      : "memory");
}

// Of a tensor whose third axis has one element, to the same place in every block of the cluster that `blocks` has a bit
// for; each of their barriers at this place counts the bytes.
__device__ inline void tma_load_multicast(uint16_t blocks, void* to, const CUtensorMap& map, int x, int y,
                                          uint64_t& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, {%2, %3, %4}], [%5], %6;" ::"r"(shared_address(to)),
      "l"(reinterpret_cast<uint64_t>(&map)), "r"(x), "r"(y), "r"(0), "r"(shared_address(&barrier)), "h"(blocks)
      : "memory");
}

// Where another block of the cluster has what this one has at `own`.
__device__ inline uint32_t address_in_block(const void* own, int block) {
  uint32_t there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared_address(own)), "r"(block));
  return there;
}

// Arrives at the barrier that lies at this place in another block of the cluster, or in this one. It tells of products
// and copies that are done, not of stores: a release to the cluster would wait for all of the thread's.
__device__ inline void arrive_in(int block, uint64_t& barrier) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(address_in_block(&barrier, block)) : "memory");
}

// A barrier of all threads of the cluster, to which the warps come whole; it publishes no stores either.
__device__ inline void sync_cluster() {
  __syncwarp();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Four 8 x 8 matrices of 16-bit elements, held as load_matrices() gets them, to rows of 16 aligned bytes.
__device__ inline void store_matrices(void* row, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(m0),
               "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

// Orders this thread's stores to shared memory before later reads by copies and warpgroup products.
__device__ inline void publish_stores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A barrier of all threads of a cluster, in two steps. It orders nothing between them: that would take a fence, some
// hundred nanoseconds.
__device__ inline void arrive_at_cluster() { asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory"); }
__device__ inline void await_cluster_arrivals() { asm volatile("barrier.cluster.wait;" ::: "memory"); }

// Copies shared memory there, whole 16 bytes, after publish_stores(); a barrier there counts them. The block that sends
// has to live until they have come.
__device__ inline void send_bytes(uint32_t to, const void* from, int bytes, uint32_t barrier) {
  asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "r"(shared_address(from)), "r"(bytes), "r"(barrier)
               : "memory");
}

// A barrier of the 128 threads of one warpgroup.
__device__ inline void sync_warpgroup(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id + 1) : "memory"); }

#endif

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Rows of a panel that are one k-step's columns: the left matrix, or the right one whose rows are its columns.
__device__ inline uint64_t panel_rows(const void* begin) {
  constexpr uint64_t swizzle_128 = uint64_t{1} << 62, group_of_8_rows = uint64_t{1024 >> 4} << 32, unused = 1 << 16;
  return swizzle_128 | group_of_8_rows | unused | (shared_address(begin) >> 4);
}
// The right matrix with the panels' rows for k, their columns for n; panels are `bytes` apart.
__device__ inline uint64_t panel_columns(const void* begin, int bytes) {
  constexpr uint64_t swizzle_128 = uint64_t{1} << 62, group_of_8_rows = uint64_t{1024 >> 4} << 32;
  return swizzle_128 | group_of_8_rows | static_cast<uint64_t>(bytes >> 4) << 16 | (shared_address(begin) >> 4);
}

// Registers a thread may use from here on, for all of a warpgroup: more, which it waits for, and less.
template <int Registers>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ inline void leave_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

// Before the first product of a group, after registers of it were written.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int Pending>
__device__ inline void await_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// c (64 rows, N columns; a lane's elements as in mma m16n8k16, n-block by n-block) = or += a · b.
//   multiply_tiles: both from shared memory, b's rows being columns
//   multiply_rows:  a from registers, as in mma m16n8k16; b's columns being columns
template <class T, int N>
struct warpgroup_product;

#define FT_C8(i)                                                                                              \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), \
      "+f"(c[i + 7])
#define FT_C16(i) FT_C8(i), FT_C8(i + 8)
#define FT_C32(i) FT_C16(i), FT_C16(i + 16)
#define FT_C64(i) FT_C32(i), FT_C32(i + 32)
#define FT_NAMES_16 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FT_NAMES_32 FT_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FT_NAMES_48 FT_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define FT_NAMES_64 FT_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FT_NAMES_80 FT_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define FT_NAMES_96 FT_NAMES_80 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define FT_NAMES_112 \
  FT_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define FT_NAMES_128 \
  FT_NAMES_112 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define FT_PRODUCT(type, name, N, names, a0, a1, a2, a3, b, last, ...)                                    \
  template <>                                                                                             \
  struct warpgroup_product<type, N> {                                                                     \
    static __device__ inline void multiply_tiles(float (&c)[N / 2], uint64_t a, uint64_t b_, bool add) {  \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" a2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N   \
                   "k16.f32." name "." name " {" names "}, %" a0 ", %" a1 ", p, 1, 1, 0, 0;\n}"           \
                   : __VA_ARGS__                                                                          \
                   : "l"(a), "l"(b_), "r"(static_cast<int>(add)));                                        \
    }                                                                                                     \
    static __device__ inline void multiply_rows(float (&c)[N / 2], const uint32_t (&a)[4], uint64_t b_) { \
      asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" last ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N \
                   "k16.f32." name "." name " {" names "}, {%" a0 ", %" a1 ", %" a2 ", %" a3 "}, %" b     \
                   ", p, 1, 1, 1;\n}"                                                                     \
                   : __VA_ARGS__                                                                          \
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_), "r"(1));                        \
    }                                                                                                     \
  };
#define FT_PRODUCTS(type, name)                                                                              \
  FT_PRODUCT(type, name, 32, FT_NAMES_16, "16", "17", "18", "19", "20", "21", FT_C16(0))                     \
  FT_PRODUCT(type, name, 64, FT_NAMES_32, "32", "33", "34", "35", "36", "37", FT_C32(0))                     \
  FT_PRODUCT(type, name, 96, FT_NAMES_48, "48", "49", "50", "51", "52", "53", FT_C32(0), FT_C16(32))         \
  FT_PRODUCT(type, name, 128, FT_NAMES_64, "64", "65", "66", "67", "68", "69", FT_C64(0))                    \
  FT_PRODUCT(type, name, 160, FT_NAMES_80, "80", "81", "82", "83", "84", "85", FT_C64(0), FT_C16(64))        \
  FT_PRODUCT(type, name, 192, FT_NAMES_96, "96", "97", "98", "99", "100", "101", FT_C64(0), FT_C32(64))      \
  FT_PRODUCT(type, name, 224, FT_NAMES_112, "112", "113", "114", "115", "116", "117", FT_C64(0), FT_C32(64), \
             FT_C16(96))                                                                                     \
  FT_PRODUCT(type, name, 256, FT_NAMES_128, "128", "129", "130", "131", "132", "133", FT_C64(0), FT_C64(64))
FT_PRODUCTS(__half, "f16")
FT_PRODUCTS(__nv_bfloat16, "bf16")
#undef FT_PRODUCTS
#undef FT_PRODUCT
#undef FT_NAMES_128
#undef FT_NAMES_112
#undef FT_NAMES_96
#undef FT_NAMES_80
#undef FT_NAMES_64
#undef FT_NAMES_48
#undef FT_NAMES_32
#undef FT_NAMES_16
#undef FT_C64
#undef FT_C32
#undef FT_C16
#undef FT_C8

#endif

}  // namespace ft::cuda
