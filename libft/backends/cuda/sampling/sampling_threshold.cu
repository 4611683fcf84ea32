// sampling_threshold: a block a row sorts the candidates and finds how many are left. Where they do not tell, the last
// that is left is searched for among the whole row's elements: bit by bit, since their order is that of whole numbers,
// each bit by one pass that counts or weighs what is above.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/sampling/ranking.h"
#include "ops/sampling_threshold.h"

namespace ft::cuda {
namespace {

constexpr int threads = 512, warps = threads / 32;
static_assert(most_top_k <= threads);

__device__ double block_sum(double x, double* of_warps) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
  __syncthreads();
  x = 0;
  for (int warp = 0; warp < warps; ++warp) x += of_warps[warp];
  return x;
}

__device__ double weight_of(float logit, float highest) { return exp(static_cast<double>(logit) - highest); }

// By one thread: how many of `count` sorted candidates are left; 0 where only more elements could tell. `total` is the
// sum of all weights of the row. `is_all`: no other element has one.
__device__ int num_left(const ranked* sorted, const double* weight, int count, bool is_all, sampling_limits by,
                        double total) {
  int left = count;
  if (by.top_k > 0) {
    if (by.top_k <= count) {
      const int k = static_cast<int>(by.top_k);
      const float kth = value_of(sorted[k - 1]);
      for (left = k; left < count && value_of(sorted[left]) == kth;) ++left;
      is_all |= left < count;
    }
    if (!is_all) return 0;
    total = 0;
    for (int i = 0; i < left; ++i) total += weight[i];
  }
  if (by.top_p < 1) {
    double mass = 0;
    int nucleus = 0;
    while (nucleus < left && mass < by.top_p) mass += weight[nucleus++] / total;
    is_all |= mass >= by.top_p;
    left = max(nucleus, 1);
  }
  if (by.min_p > 0) {
    const int before = left;
    while (left > 1 && weight[left - 1] < by.min_p) --left;
    is_all |= left < before;
  }
  return is_all ? left : 0;
}

// A row whose elements are looked at as often as need be.
struct whole_row {
  const float* x;
  int width;
  float t;
  double* sums;
  ranked* bests;

  // -infinity is never drawn, and so is none.
  __device__ ranked rank(int i) const { return x[i] > -INFINITY ? rank_of(x[i] / t, i) : 0; }

  // Σ f(key) over the elements of at least `bound`, which is above 0.
  template <class F>
  __device__ double sum_from(ranked bound, F f) const {
    double sum = 0;
    for (int i = threadIdx.x; i < width; i += threads)
      if (const ranked r = rank(i); r >= bound) sum += f(r);
    return block_sum(sum, sums);
  }

  // The greatest bound from which the sum reaches `least`; 1, from which all count, where none does.
  template <class F>
  __device__ ranked bound_of(double least, F f) const {
    ranked bound = 0;
    const int index_bits = 32 - __clz(width - 1);  // above these, all indices' complements have ones
    for (int bit = 63; bit >= 0; --bit)
      if (const ranked higher = bound | ranked{1} << bit;
          (bit < 32 && bit >= index_bits) || sum_from(higher, f) >= least)
        bound = higher;
    return max(bound, ranked{1});
  }

  __device__ ranked last_left(sampling_limits by) const {
    ranked highest = 0;
    for (int i = threadIdx.x; i < width; i += threads) highest = max(highest, rank(i));
    highest = block_best<threads>(highest, bests);
    if (highest == 0) return 0;
    const float first = value_of(highest);
    const auto one = [](ranked) { return 1.0; };
    const auto weight = [first](ranked r) { return static_cast<double>(expf(value_of(r) - first)); };
    ranked bound = 1;
    if (by.top_k > 0) bound = bound_of(by.top_k, one) >> 32 << 32;  // and all that are equal to the k-th
    bound = max(bound, ranked{1});
    if (by.top_p < 1) {
      const double total = sum_from(bound, weight);
      bound = max(bound, min(bound_of(by.top_p * total, weight), highest));
    }
    if (by.min_p > 0) {
      ranked probable = 0;  // the least value whose weight is enough
      for (int bit = 63; bit >= 32; --bit) {
        const ranked higher = probable | ranked{1} << bit;
        if (higher <= highest && !(weight_of(value_of(higher), first) >= by.min_p)) probable = higher;
      }
      probable += ranked{1} << 32;
      bound = max(bound, min(probable, highest));
    }
    // The least element that reaches the bound: the greatest of their complements.
    ranked least = 0;
    for (int i = threadIdx.x; i < width; i += threads)
      if (const ranked r = rank(i); r >= bound) least = max(least, ~r);
    return ~block_best<threads>(least, bests);
  }
};

__global__ void __launch_bounds__(threads)
    find_thresholds(float* least, int32_t* last, row_view<const float> x, const float* value, const int32_t* index,
                    const float* log_sum, const float* temperature, const sampling_limits* limits, int width, int k) {
  __shared__ ranked unsorted[most_top_k], sorted[most_top_k], bests[warps];
  __shared__ double weight[most_top_k], sums[warps];
  __shared__ int left;
  await_previous_kernel();
  const int64_t row = blockIdx.x;
  const int j = threadIdx.x;
  const float t = temperature[row];
  const sampling_limits by = limits[row];
  ranked mine = 0;
  if (j < k && value[row * k + j] > -INFINITY) mine = rank_of(value[row * k + j] / t, index[row * k + j]);
  if (j < k) unsorted[j] = mine;
  const int count = __syncthreads_count(mine != 0);
  if (mine != 0) {
    int before = 0;  // what comes sorted by x need not be by x / t
    for (int i = 0; i < k; ++i) before += unsorted[i] > mine;
    sorted[before] = mine;
  }
  __syncthreads();
  if (j < count) weight[j] = weight_of(value_of(sorted[j]), value_of(sorted[0]));
  __syncthreads();
  if (j == 0)
    left = count == 0 ? -1 : num_left(sorted, weight, count, count < k, by, exp(static_cast<double>(log_sum[row])));
  __syncthreads();
  ranked bound = 0;
  if (left == 0)
    bound = whole_row{x.at(row), width, t, sums, bests}.last_left(by);
  else if (left > 0)
    bound = sorted[left - 1];
  if (j == 0) least[row] = value_of(bound), last[row] = index_of(bound);
}

}  // namespace

void sampling_threshold(exec& ex, const sampling_threshold_args& a) {
  if (a.x.shape[0] == 0) return;
  launch_kernel(ex, "sampling_threshold", {grid_size(a.x.shape[0], "sampling_threshold"), threads}, find_thresholds,
                a.least.as<float>(), a.last.as<int32_t>(), rows_of<const float>(a.x), a.value.as<const float>(),
                a.index.as<const int32_t>(), a.log_sum.as<const float>(), a.temperature.as<const float>(),
                a.by.as<const sampling_limits>(), static_cast<int>(a.x.shape[1]), static_cast<int>(a.value.shape[1]));
}

}  // namespace ft::cuda
