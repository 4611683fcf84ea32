// The kernel for some rows on compute capability 9.0: too many for few_rows*.cu, too few for arithmetic to be all that
// counts. What counts is to read the weights once at the speed of memory, and that nothing stands idle between kernels.
//
// A block computes W times 64 rows, a warpgroup's product each, and F features, with F such that the blocks fill the
// multiprocessors evenly. One thread has tiles of weights and rows copied through a ring of stages; the weights' come
// while the kernel that writes the rows still runs. Where there are too few features for all multiprocessors, the
// blocks of a cluster share the input features: each sends its sums to the block that adds them up, in one order
// whatever comes first, and writes those rows.
#pragma once

#include "backends/cuda/device/weight.h"
#include "backends/cuda/gemm/tma_load.h"
#include "backends/cuda/kernel/activate.h"
#include "backends/cuda/kernel/hopper.h"
#include "backends/cuda/kernel/launch.h"
#include "ops/linear.h"

namespace ft::cuda {

inline constexpr int most_ring_stages = 24, most_tile_features = 256;
inline constexpr int barrier_bytes = 1024, head_bytes = barrier_bytes + most_tile_features * 4;  // then comes the ring
inline constexpr int sums_gap = 8;  // floats between rows of sums, against bank conflicts

// How a product is cut: a matter of shapes alone.
struct row_cut {
  int row_groups;  // W
  int features;    // F
  int parts;       // of the input features: 1, 2, 4 or 8
  int slabs;       // of a stage
  int stages;
  bool sums_apart;  // from the ring: blocks need not wait for each other before they send
  int outputs;      // of a block: F, or half as many where each has a gate
};

struct some_rows_problem {
  void* out;             // of `T`, or float32 where `wide`
  const void* residual;  // as `out`, which it may be
  const float* bias;
  int64_t out_stride, residual_stride;
  activation_kind kind;
  bool wide;
  bool gated;  // the weight has gate's out_features rows, then up's
  int rows, out_features, in_features;
};

template <int W, int F>
struct row_tile {
  static constexpr int rows = W * 64;
  static constexpr int multipliers = W * 128, threads = multipliers + 32;  // one warp more has tiles copied
  static constexpr int sums_stride = F + sums_gap, sums_bytes = rows * sums_stride * 4;

  static __host__ __device__ int stage_bytes(const row_cut& c) { return (F + rows) * c.slabs * slab_bytes; }
  static __host__ __device__ int ring_bytes(const row_cut& c) { return c.stages * stage_bytes(c); }
  // A block's own sums, and those that come to it.
  static __host__ __device__ int all_sums_bytes(const row_cut& c) { return c.parts > 1 ? 2 * sums_bytes : sums_bytes; }
  static size_t shared_bytes(const row_cut& c) {
    const int ring = ring_bytes(c), sums = all_sums_bytes(c);
    return static_cast<size_t>(head_bytes + (c.sums_apart ? ring + sums : std::max(ring, sums)));
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where a block stands: its tile, its part of the input features, and its shared memory. A stage holds
// [slabs][F][64] weights and [slabs][rows][64] of x. Of a gated product the first half of the features are gate's, the
// others up's; gate's that are beyond its last one are some of up's, and are not written.
template <int W, int F>
struct row_block {
  using tile = row_tile<W, F>;
  const some_rows_problem& p;
  const row_cut& cut;
  uint8_t* shared;
  int part, feature, row, begin, chunks;

  __device__ row_block(const some_rows_problem& p, const row_cut& c, uint8_t* shared)
      : p(p),
        cut(c),
        shared(shared),
        part(static_cast<int>(blockIdx.x) % c.parts),
        feature(static_cast<int>(blockIdx.x) / c.parts * c.outputs),
        row(static_cast<int>(blockIdx.y) * tile::rows) {
    const int width = c.slabs * slab, all = (p.in_features + width - 1) / width;
    begin = all * part / c.parts;
    chunks = all * (part + 1) / c.parts - begin;
  }

  __device__ uint64_t& full(int stage) const { return reinterpret_cast<uint64_t*>(shared)[stage]; }
  __device__ uint64_t& empty(int stage) const { return reinterpret_cast<uint64_t*>(shared)[most_ring_stages + stage]; }
  __device__ uint64_t& sums_full() const { return reinterpret_cast<uint64_t*>(shared)[2 * most_ring_stages]; }
  __device__ float* bias() const { return reinterpret_cast<float*>(shared + barrier_bytes); }
  __device__ uint8_t* weights(int stage) const { return shared + head_bytes + stage * tile::stage_bytes(cut); }
  __device__ uint8_t* x(int stage) const { return weights(stage) + cut.slabs * F * slab_bytes; }
  // [rows][F + gap], by eights of rows
  __device__ float* own_sums() const {
    return reinterpret_cast<float*>(shared + head_bytes + (cut.sums_apart ? tile::ring_bytes(cut) : 0));
  }
  // [parts][rows / parts][F + gap]; the block's own part is not among them
  __device__ float* sums() const { return own_sums() + tile::sums_bytes / 4; }
  // Those of a part, for the own-th row that this block writes; of other parts' when they have come.
  __device__ const float* sums_of(int from, int own) const {
    if (from == part) return own_sums() + ((own / 8 * cut.parts + part) * 8 + own % 8) * tile::sums_stride;
    return sums() + (from * (tile::rows / cut.parts) + own) * tile::sums_stride;
  }

  // By one thread, before the others use them.
  __device__ void create_barriers() const {
    for (int s = 0; s < cut.stages; ++s) {
      init_barrier(full(s), 1);
      init_barrier(empty(s), W * 4);
    }
    init_barrier(sums_full(), 1);
    publish_barriers();
    publish_stores();
    if (cut.parts > 1) arrive_expecting(sums_full(), tile::sums_bytes / cut.parts * (cut.parts - 1));
  }
  __device__ void load_weights(int stage, int i, const tiled_tensor_map& from) const {
    arrive_expecting(full(stage), tile::stage_bytes(cut));
    for (int s = 0; s < cut.slabs; s += from.slabs) {
      uint8_t* to = weights(stage) + s * F * slab_bytes;
      const int column = ((begin + i) * cut.slabs + s) * slab;
      tma_load(to, from, column, feature, shared_address(&full(stage)), read_once);
      if (p.gated)
        tma_load(to + F / 2 * slab_bytes, from, column, p.out_features + feature, shared_address(&full(stage)),
                 read_once);
    }
  }
  __device__ void load_x(int stage, int i, const tiled_tensor_map& from) const {
    for (int s = 0; s < cut.slabs; s += from.slabs)
      tma_load(x(stage) + s * tile::rows * slab_bytes, from, ((begin + i) * cut.slabs + s) * slab, row,
               shared_address(&full(stage)), read_often);
  }
  // What the copying thread does once the rows are there.
  __device__ void feed(const tiled_tensor_map& weights_map, const tiled_tensor_map& x_map) const {
    for (int i = 0; i < min(cut.stages, chunks); ++i) load_x(i, i, x_map);
    ring_place use;
    for (int i = cut.stages; i < chunks; ++i, use.advance(cut.stages)) {
      mbarrier_wait(empty(use.stage), use.parity);
      load_weights(use.stage, i, weights_map);
      load_x(use.stage, i, x_map);
    }
  }

  // The features' biases, before the kernel before this one has ended.
  __device__ void load_bias() const {
    for (int f = threadIdx.x; f < F; f += tile::threads) {
      const bool of_up = p.gated && f >= F / 2;
      const int output = feature + (of_up ? f - F / 2 : f);
      bias()[f] = p.bias && output < p.out_features ? p.bias[of_up ? p.out_features + output : output] : 0;
    }
  }
};

// A warpgroup's 64 rows times the features; a thread has two rows' pairs of features, as in mma m16n8k16.
template <class T, int W, int F>
__device__ __forceinline__ void multiply_chunks(float (&sum)[F / 2], const row_block<W, F>& b) {
  const int group = threadIdx.x / 128;
  ring_place use;
  int before = 0;
  for (int i = 0; i < b.chunks; ++i, before = use.stage, use.advance(b.cut.stages)) {
    const uint8_t *x = b.x(use.stage) + group * 64 * slab_bytes, *weights = b.weights(use.stage);
    mbarrier_wait(b.full(use.stage), use.parity);
    begin_products();
    for (int s = 0; s < b.cut.slabs; ++s, x += row_tile<W, F>::rows * slab_bytes, weights += F * slab_bytes)
#pragma unroll
      for (int k = 0; k < slab_bytes; k += 32)
        warpgroup_product<T, F>::multiply_tiles(sum, panel_rows(x + k), panel_rows(weights + k), true);
    commit_products();
    await_products<1>();
    if (i > 0 && threadIdx.x % 32 == 0) arrive(b.empty(before));
  }
  await_products<0>();
}

// Keeps the sums, and sends those of each eight rows to the block that finishes them, where that is another.
template <int W, int F>
__device__ __forceinline__ void send_sums(const row_block<W, F>& b, const float (&sum)[F / 2]) {
  using tile = row_tile<W, F>;
  constexpr int eight_bytes = 8 * tile::sums_stride * 4;
  const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 2, parts = b.cut.parts;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float* to = b.own_sums() + ((first + half) * 8 + lane / 4) * tile::sums_stride + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < F / 8; ++n)
      *reinterpret_cast<float2*>(to + n * 8) = float2{sum[n * 4 + half * 2], sum[n * 4 + half * 2 + 1]};
  }
  if (parts == 1) return;
  publish_stores();
  __syncwarp();
  if (lane >= 2) return;
  const int eight = first + lane, owner = eight % parts;
  if (owner == b.part) return;
  const float* to = b.sums() + (b.part * (tile::rows / parts) + eight / parts * 8) * tile::sums_stride;
  send_bytes(address_in_block(to, owner), b.own_sums() + eight * 8 * tile::sums_stride, eight_bytes,
             address_in_block(&b.sums_full(), owner));
}

// A thread's share of the outputs that a block writes: eight of every so many of its rows.
template <int W, int F>
struct output_share {
  static constexpr int vectors = F / 8;
  const row_block<W, F>& b;
  const some_rows_problem& p = b.p;
  int column = threadIdx.x % vectors * 8, first = threadIdx.x / vectors, step = row_tile<W, F>::threads / vectors;
  const int own_rows = row_tile<W, F>::rows / b.cut.parts;

  __device__ explicit output_share(const row_block<W, F>& b) : b(b) {
    if (!p.gated) return;
    // A row has half as many outputs: the threads that would have the others take rows in between.
    const bool in_between = column >= F / 2;
    column -= in_between ? F / 2 : 0;
    first = 2 * first + in_between;
    step *= 2;
  }

  __device__ int feature() const { return b.feature + column; }
  __device__ bool empty() const { return first >= step || feature() >= p.out_features; }
  // Of the product; the block has each eight rows of as many as there are parts.
  __device__ int row(int own) const { return b.row + (own / 8 * b.cut.parts + b.part) * 8 + own % 8; }
  __device__ bool has(int own) const { return own < own_rows && row(own) < p.rows; }

  template <class Out>
  __device__ pack<Out, 8> residual(int own) const {
    pack<Out, 8> r{};
    if (p.residual && !empty() && has(own))
      r = *reinterpret_cast<const pack<Out, 8>*>(static_cast<const Out*>(p.residual) + row(own) * p.residual_stride +
                                                 feature());
    return r;
  }

  // The parts' sums. Those of up, where there are any, come first and by the same instructions: what is not in the
  // cache takes longer to fetch than to execute.
  __device__ __forceinline__ void add_parts(float (&v)[8], float (&up)[8], int own) const {
#pragma unroll 1
    for (int of = F - b.cut.outputs;; of = 0) {
      float s[8];
      load<8>(b.sums_of(0, own) + of + column, v);
      for (int part = 1; part < b.cut.parts; ++part) {
        load<8>(b.sums_of(part, own) + of + column, s);
#pragma unroll
        for (int e = 0; e < 8; ++e) v[e] += s[e];
      }
      if (of == 0) return;
      load<8>(b.bias() + of + column, up);
#pragma unroll
      for (int e = 0; e < 8; ++e) up[e] += v[e];
    }
  }

  // `next` is the first residual.
  template <class Out>
  __device__ __forceinline__ void finish(pack<Out, 8> next) const {
    if (empty()) return;
    float bias[8];
    load<8>(b.bias() + column, bias);
#pragma unroll 1
    for (int own = first; has(own); own += step) {
      const pack<Out, 8> more = next;
      next = residual<Out>(own + step);  // on its way meanwhile
      float v[8], up[8];
      add_parts(v, up, own);
#pragma unroll
      for (int e = 0; e < 8; ++e) v[e] += bias[e];
      activate<8, Out>(p.kind, v);
      if (p.gated)
#pragma unroll
        for (int e = 0; e < 8; ++e) v[e] *= up[e];
#pragma unroll
      for (int e = 0; e < 8; ++e) v[e] += widen(more.at[e]);
      store<8>(static_cast<Out*>(p.out) + row(own) * p.out_stride + feature(), v);
    }
  }
};

#endif

template <class T, int W, int F>
__global__ void __launch_bounds__(row_tile<W, F>::threads, W <= 2 && F <= 128 ? 2 : 1)
    multiply_row_tiles(const __grid_constant__ some_rows_problem p, const __grid_constant__ row_cut cut,
                       const __grid_constant__ tiled_tensor_map weights, const __grid_constant__ tiled_tensor_map x) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared[];
  const row_block<W, F> b(p, cut, shared);
  constexpr int multipliers = row_tile<W, F>::multipliers;
  const bool multiplies = threadIdx.x < multipliers, feeds = threadIdx.x == multipliers;
  if (feeds) {
    prefetch_map(weights);
    prefetch_map(x);
    b.create_barriers();
    for (int i = 0; i < min(cut.stages, b.chunks); ++i) b.load_weights(i, i, weights);
  }
  b.load_bias();
  __syncthreads();
  if (cut.parts > 1) arrive_at_cluster();  // this block's barriers are there
  await_previous_kernel();
  if (feeds) b.feed(weights, x);
  const output_share<W, F> share(b);
  const pack<T, 8> residual = p.wide ? pack<T, 8>{} : share.template residual<T>(share.first);
  float sum[F / 2] = {};
  if (multiplies) multiply_chunks<T>(sum, b);
  if (cut.parts > 1) await_cluster_arrivals();
  if (!cut.sums_apart) {  // nobody reads the ring any more
    __syncthreads();
    if (cut.parts > 1) {
      arrive_at_cluster();
      await_cluster_arrivals();
    }
  }
  if (multiplies) send_sums(b, sum);
  __syncthreads();
  if (cut.parts > 1) {
    mbarrier_wait(b.sums_full(), 0);
    arrive_at_cluster();  // this block has what was sent to it
  }
  if (p.wide)
    share.template finish<float>(share.template residual<float>(share.first));
  else
    share.template finish<T>(residual);
  if (cut.parts > 1) await_cluster_arrivals();
#endif
}

template <class T, int W, int F>
void launch_row_tiles(exec& ex, const some_rows_problem& p, const cuda_weight& weight, const tensor& x, row_cut cut) {
  using tile = row_tile<W, F>;
  cut.outputs = p.gated ? F / 2 : F;
  launch_kernel(
      ex, "linear",
      {.grid = dim3(grid_size(ceil_div(p.out_features, cut.outputs) * cut.parts, "linear"),
                    grid_size(ceil_div(p.rows, tile::rows), "linear")),
       .block = tile::threads,
       .shared_bytes = tile::shared_bytes(cut),
       .cluster = static_cast<unsigned>(cut.parts)},
      multiply_row_tiles<T, W, F>, p, cut,
      tensor_map_of_tiles(weight.values.data, weight.values.type, weight.out_features, p.in_features, p.in_features,
                          cut.outputs,
                          p.gated ? 1 : cut.slabs),  // gate's and up's features of one slab after the other
      tensor_map_of_tiles(x.data, weight.values.type, p.rows, p.in_features, x.stride[0], tile::rows, cut.slabs));
}

}  // namespace ft::cuda
