// log_softmax: a block a row, the largest element and the sum of exponentials in one pass, the result in a second.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"

namespace ft::cuda {
namespace {

constexpr int threads = 1024;

// Before anything but -infinity has come the sum is empty, and the exponent of -infinity - -infinity is not taken.
__device__ void join(float& largest, float& sum, float x) {
  if (x > largest) {
    sum = sum * expf(largest - x) + 1;
    largest = x;
  } else if (x != -INFINITY) {
    sum += expf(x - largest);
  }
}

template <int V>
__global__ void __launch_bounds__(threads) log_softmax_rows(row_view<float> out, row_view<const float> x, int width) {
  __shared__ float partial[32];
  await_previous_kernel();
  const float* from = x.at(blockIdx.x);
  float* to = out.at(blockIdx.x);
  float largest = -INFINITY, sum = 0;
  for (int c = threadIdx.x * V; c < width; c += threads * V) {
    float v[V];
    load<V>(from + c, v);
#pragma unroll
    for (int i = 0; i < V; ++i) join(largest, sum, v[i]);
  }
  const float row_largest = block_reduce(largest, larger{}, -INFINITY, partial);
  const float share = sum > 0 || isnan(sum) ? sum * expf(largest - row_largest) : 0;
  const float log_sum = logf(block_reduce(share, add_up{}, 0, partial));
  for (int c = threadIdx.x * V; c < width; c += threads * V) {
    float v[V];
    load<V>(from + c, v);
#pragma unroll
    for (int i = 0; i < V; ++i) v[i] = v[i] - row_largest - log_sum;
    store<V>(to + c, v);
  }
}

}  // namespace

void log_softmax(exec& ex, const log_softmax_args& a) {
  if (a.x.shape[0] == 0) return;
  with_width(in_vectors({&a.x, &a.out}), [&](auto v) {
    launch_kernel(ex, "log_softmax", {grid_size(a.x.shape[0], "log_softmax"), threads}, log_softmax_rows<v.value>,
                  rows_of<float>(a.out), rows_of<const float>(a.x), static_cast<int>(a.x.shape[1]));
  });
}

}  // namespace ft::cuda
