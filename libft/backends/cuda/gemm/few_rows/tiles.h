// What the kernels share that multiply a few rows on tensor cores: how a product is cut, the stages in shared memory
// that weights and rows stream through, their multiplication, and the join of the sums. The kernels differ in who
// copies the stages.
//
// The weights are the left operand of mma m16n8k16, 16 features at a time, and the rows are its columns, 8 at a time.
// A block has all input features of its features, so that no two have to join their sums: 64 blocks, as a matrix of
// 1024 features makes, draw as much as the memory gives. The cut depends on the weight alone, so that a row's result is
// the same to the bit whatever rows are beside it.
#pragma once

#include <algorithm>

#include "backends/cuda/gemm/few_rows/problem.h"
#include "backends/cuda/gemm/tiled_tensor_map.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/tensor_core.h"

namespace ft::cuda {

inline constexpr int tile = 16;  // features of one mma
inline constexpr int most_stages = 8, most_tile_warps = 16;

struct tile_cut {
  int feature_warps, input_warps;  // of a block
  int chunk;                       // input features of a stage
  int ring_bytes, ahead_bytes;     // for stages, and for weights that are under way
  int stages, ahead;               // as many fit into them. They depend on the rows too
  int outputs;                     // of a block: its features, or half as many where each has a gate

  __host__ __device__ int features() const { return feature_warps * tile; }  // of a block
  __host__ __device__ int stage_bytes(int rows) const { return (features() + rows) * chunk * 2; }
};

// A block's part of the weights and rows, in stages of [chunk / slab][features][slab] weights and
// [chunk / slab][rows][slab] of x. Of a gated product the first half of the features are gate's, the others up's;
// gate's that are beyond its last one are some of up's, and are not written. The 16-byte vectors of a slab stand at
// (vector ^ row % 8), which keeps ldmatrix free of bank conflicts and is how the hardware copies tiles.
template <class T, class Out, int N>
struct tile_block {
  static constexpr int rows = 8 * N;
  const few_rows_problem<T, Out>& p;
  const tile_cut& c;
  char* ring;
  int features, first;  // of the block; the first output

  __device__ tile_block(const few_rows_problem<T, Out>& p, const tile_cut& c, char* ring)
      : p(p), c(c), ring(ring), features(c.features()), first(static_cast<int>(blockIdx.x) * c.outputs) {}

  __device__ int chunks() const { return (p.in_features + c.chunk - 1) / c.chunk; }
  __device__ char* stage(int i) const { return ring + i % c.stages * c.stage_bytes(rows); }
  __device__ char* x_of(int i) const { return stage(i) + features * c.chunk * 2; }
};

// A warp's share of a block: of every stage, the 32s of input features whose number is input_warp mod input_warps.
template <class T, class Out, int N>
struct tile_sums {
  int feature_warp, input_warp;
  float sum[2][N][4] = {};  // two chains of mma, which wait for nothing but their own

  __device__ explicit tile_sums(const tile_cut& c)
      : feature_warp(threadIdx.x / 32 % c.feature_warps), input_warp(threadIdx.x / 32 / c.feature_warps) {}

  __device__ void multiply(const tile_block<T, Out, N>& b, int stage) {
    const int lane = threadIdx.x % 32, row = lane % 8, matrix = lane / 8;
    const char* weights = b.stage(stage) + (feature_warp * tile + row + matrix % 2 * 8) * 128;
    const char* x = b.x_of(stage) + row * 128;
#pragma unroll 2
    for (int unit = input_warp; unit < b.c.chunk / 32; unit += b.c.input_warps) {
      const int vector = unit % 2 * 4, place = unit / 2;
      uint32_t w[2][4], v[N][4];
#pragma unroll
      for (int half = 0; half < 2; ++half)
        load_matrices(w[half], weights + place * b.features * 128 + ((vector + 2 * half + matrix / 2) ^ row) * 16);
#pragma unroll
      for (int n = 0; n < N; ++n)
        load_matrices(v[n], x + (place * b.rows + 8 * n) * 128 + ((vector + matrix) ^ row) * 16);
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int n = 0; n < N; ++n) multiply_add<T>(sum[half][n], w[half], v[n][2 * half], v[n][2 * half + 1]);
    }
  }

  // To [input warps][rows][features + 4].
  __device__ void store(float* partial, int features) const {
    const int lane = threadIdx.x % 32, feature = feature_warp * tile + lane / 4, row = lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        partial[((input_warp * N + n) * 8 + row + e % 2) * (features + 4) + feature + e / 2 * 8] =
            sum[0][n][e] + sum[1][n][e];
  }
};

// Four neighbouring outputs of a block, the share of one of the threads with sums; and what is added to them.
template <class T, class Out, int N>
struct tile_outputs {
  static constexpr int count = 4;
  using problem = few_rows_problem<T, Out>;
  using addends = typename problem::template addends<count>;
  int row, feature, from;  // `from`: of the partial sums

  // `place` counts through [rows, outputs of a block].
  __device__ tile_outputs(const tile_block<T, Out, N>& b, int place) {
    const int r = place / b.c.outputs, f = place - r * b.c.outputs;
    const bool inside = r < b.p.rows && b.first + f < b.p.out_features;
    row = inside ? r : -1;
    feature = b.first + f;
    from = inside ? r * (b.features + 4) + f : 0;
  }
  __device__ addends added(const problem& p) const { return {p, row, feature}; }
};

// Joins the sums of a block where the stages were, and writes the outputs. For all threads of a block, of which the
// first `threads` have sums.
template <class T, class Out, int N>
struct tile_join {
  using share = tile_outputs<T, Out, N>;
  static constexpr int count = share::count;
  const tile_block<T, Out, N>& b;
  const int threads = 32 * b.c.feature_warps * b.c.input_warps, places = b.c.outputs * b.p.rows;
  const bool has_sums = static_cast<int>(threadIdx.x) < threads;
  const int first_place = has_sums ? static_cast<int>(threadIdx.x) * count : places;
  const share first{b, first_place};

  __device__ explicit tile_join(const tile_block<T, Out, N>& b) : b(b) {}

  // `more` is what is added to the first outputs.
  __device__ void run(const tile_sums<T, Out, N>& sums, typename share::addends more) {
    float* partial = reinterpret_cast<float*>(b.ring);
    __syncthreads();  // nobody reads stages any more
    if (has_sums) sums.store(partial, b.features);
    __syncthreads();
    share outputs = first;
#pragma unroll 1
    for (int place = first_place; place < places;) {
      place += count * threads;
      const share next(b, place);
      const auto next_more = next.added(b.p);  // on its way meanwhile
      float total[count], up[count];
      add_parts(total, up, partial + outputs.from);
      b.p.add_bias_and_activate(total, more);
      if (b.p.gated) b.p.multiply_by_up(outputs.row, outputs.feature, total, up);
      b.p.write(outputs.row, outputs.feature, total, more);
      outputs = next;
      more = next_more;
    }
  }

 private:
  // The input warps' sums. Those of up, where there are any, come first and by the same instructions: what is not in
  // the cache takes longer to fetch than to execute.
  __device__ void add_parts(float (&total)[count], float (&up)[count], const float* partial) const {
#pragma unroll 1
    for (int of = b.features - b.c.outputs;; of = 0) {
#pragma unroll
      for (int i = 0; i < count; ++i) total[i] = 0;
      const float* from = partial + of;
      for (int w = 0; w < b.c.input_warps; ++w, from += b.rows * (b.features + 4)) {
        float part[count];
        load<count>(from, part);
#pragma unroll
        for (int i = 0; i < count; ++i) total[i] += part[i];
      }
      if (of == 0) return;
#pragma unroll
      for (int i = 0; i < count; ++i) up[i] = total[i];
    }
  }
};

// How a weight is cut, of which a launch sets the rest.
tile_cut cut_for(const cuda_weight& weight);

// Calls f(problem, constant<rows / 8>) with the types of the product; up to 32 rows.
template <class T, class Out, class F>
void with_tiles_of_rows(const product& l, F&& f) {
  const auto p = few_rows_of<T, Out>(l);
  if (p.rows <= 8) return f(p, constant<1>{});
  if (p.rows <= 16) return f(p, constant<2>{});
  if (p.rows <= 24) return f(p, constant<3>{});
  f(p, constant<4>{});
}

template <class F>
void with_tiles(const product& l, F&& f) {
  const bool wide = l.out.type == dtype::f32;
  if (l.x.type == dtype::f16)
    wide ? with_tiles_of_rows<__half, float>(l, f) : with_tiles_of_rows<__half, __half>(l, f);
  else
    wide ? with_tiles_of_rows<__nv_bfloat16, float>(l, f) : with_tiles_of_rows<__nv_bfloat16, __nv_bfloat16>(l, f);
}

// The number of stages and outputs, and what a launch needs beside them: `extra` bytes and warps.
template <class T, class Out>
launch_shape tile_launch(tile_cut& c, const few_rows_problem<T, Out>& p, int rows, int extra_bytes, int extra_warps) {
  c.stages = std::clamp(c.ring_bytes / c.stage_bytes(rows), 2, most_stages);
  c.ahead = std::clamp(c.ahead_bytes / (c.features() * c.chunk * 2), 1, c.stages);
  c.outputs = p.gated ? c.features() / 2 : c.features();
  const int partial = c.input_warps * rows * (c.features() + 4) * int{sizeof(float)};
  return {.grid = grid_size(ceil_div(p.out_features, c.outputs), "linear"),
          .block = static_cast<unsigned>((c.feature_warps * c.input_warps + extra_warps) * 32),
          .shared_bytes = static_cast<size_t>(std::max(c.stages * c.stage_bytes(rows) + extra_bytes, partial))};
}

}  // namespace ft::cuda
