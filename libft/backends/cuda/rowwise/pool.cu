// pool: one vector a row of the ragged batch, and the division by its length where asked for.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int columns = 32, lanes = 8;  // of a block: `lanes` threads share the tokens of a column

// A block a row and 32 columns of it.
template <class T>
__global__ void __launch_bounds__(columns* lanes)
    pool_columns(row_view<float> out, row_view<const T> x, const int32_t* row_offsets, pool_kind kind, int width,
                 int column_blocks) {
  __shared__ float partial[lanes][columns];
  await_previous_kernel();
  const int row = blockIdx.x / column_blocks, column = blockIdx.x % column_blocks * columns + threadIdx.x;
  const int lane = threadIdx.y, begin = row_offsets[row], tokens = row_offsets[row + 1] - begin;
  const int only = kind == pool_kind::first ? 0 : kind == pool_kind::last ? tokens - 1 : -1;
  const bool maximum = kind == pool_kind::max;
  float value = maximum ? -INFINITY : 0;
  if (column < width) {
    if (only >= 0) {
      value = lane == 0 ? widen(*x.at(begin + only, column)) : 0;
    } else {
#pragma unroll 4
      for (int t = lane; t < tokens; t += lanes) {
        const float next = widen(*x.at(begin + t, column));
        value = maximum ? fmaxf(value, next) : value + next;
      }
    }
  }
  partial[lane][threadIdx.x] = value;
  __syncthreads();
  if (lane != 0 || column >= width) return;
  for (int i = 1; i < lanes; ++i) {
    const float next = partial[i][threadIdx.x];
    value = maximum ? fmaxf(value, next) : value + next;
  }
  *out.at(row, column) = kind == pool_kind::mean ? value / tokens : value;
}

constexpr int normalize_threads = 256;

__global__ void __launch_bounds__(normalize_threads) normalize_rows(row_view<float> x, int width) {
  __shared__ float partial[32];
  await_previous_kernel();
  float* row = x.at(blockIdx.x);
  float squares = 0;
  for (int i = threadIdx.x; i < width; i += normalize_threads) squares += row[i] * row[i];
  const float length = fmaxf(sqrtf(block_reduce(squares, add_up{}, 0, partial)), 1e-12f);
  for (int i = threadIdx.x; i < width; i += normalize_threads) row[i] /= length;
}

}  // namespace

void pool(exec& ex, const pool_args& a) {
  const int64_t rows = a.out.shape[0], width = a.out.shape[1], column_blocks = ceil_div(width, columns);
  if (rows * width == 0) return;
  with_float(a.x.type, [&](auto element) {
    using T = decltype(element);
    launch_kernel(ex, "pool", {grid_size(rows * column_blocks, "pool"), dim3(columns, lanes)}, pool_columns<T>,
                  rows_of<float>(a.out), rows_of<const T>(a.x), a.row_offsets.as<const int32_t>(), a.kind,
                  static_cast<int>(width), static_cast<int>(column_blocks));
  });
  if (a.normalize)
    launch_kernel(ex, "pool", {grid_size(rows, "pool"), normalize_threads}, normalize_rows, rows_of<float>(a.out),
                  static_cast<int>(width));
}

}  // namespace ft::cuda
