// sample: several blocks a row sum the weights of a part of it each; then one block a row finds the part that the draw
// falls into, and in it the element. Parts depend on the row's width alone, so that a draw is the same whatever rows
// are beside it.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"
#include "backends/cuda/sampling/ranking.h"

namespace ft::cuda {
namespace {

constexpr int threads = part_threads, warps = threads / 32;

struct weights_of_part {
  float largest;  // of x / t; -infinity where there is no number
  float sum;      // of exp(x / t - largest)
};

// A row's weights. Where there is no number above -infinity nothing has one.
struct weights {
  float t, least;
  int last;

  __device__ weights(int64_t row, const float* temperature, const float* least, const int32_t* last)
      : t(temperature[row]), least(least ? least[row] : -INFINITY), last(least ? last[row] : 0x7fffffff) {}

  __device__ float operator()(float x, int i, float largest) const {
    const float l = x / t;
    return x > -INFINITY && (l > least || (l == least && i <= last)) ? expf(l - largest) : 0;
  }
};

__global__ void __launch_bounds__(threads)
    sum_parts(weights_of_part* parts, row_view<const float> x, const float* temperature, const float* least,
              const int32_t* last_kept, int width, int part) {
  __shared__ float partial[32];
  await_previous_kernel();
  const int begin = blockIdx.x * part, end = min(begin + part, width);
  const float* row = x.at(blockIdx.y);
  const weights weight(blockIdx.y, temperature, least, last_kept);
  float largest = -INFINITY, sum = 0;
  for (int i = begin + threadIdx.x; i < end; i += threads) largest = fmaxf(largest, row[i]);  // passes over NaNs
  largest = block_reduce(largest, larger{}, -INFINITY, partial) / weight.t;
  for (int i = begin + threadIdx.x; i < end; i += threads) sum += weight(row[i], i, largest);
  sum = block_reduce(sum, add_up{}, 0, partial);
  if (threadIdx.x == 0) parts[blockIdx.y * gridDim.x + blockIdx.x] = {largest, sum};
}

struct drawn_part {
  int index;         // -1: no part has a weight
  double remaining;  // of the draw, in the part's own weights
  float log_sum;     // log of the row's weights, in the part's own
};

// By one thread: there are few parts.
__device__ drawn_part draw_part(const weights_of_part* parts, int count, double uniform) {
  float largest = -INFINITY;
  for (int p = 0; p < count; ++p) largest = fmaxf(largest, parts[p].largest);
  if (largest == -INFINITY) return {-1, 0, 0};
  const auto share = [&](int p) { return parts[p].sum * static_cast<double>(expf(parts[p].largest - largest)); };
  double total = 0;
  for (int p = 0; p < count; ++p) total += share(p);
  double remaining = uniform * total, before = 0;
  int drawn = -1;
  for (int p = 0; p < count && remaining >= 0; ++p)
    if (const double mine = share(p); mine > 0) {
      drawn = p;
      before = remaining;
      remaining -= mine;
    }
  if (drawn < 0) return {-1, 0, 0};  // no sum is a number
  const double scale = exp(static_cast<double>(largest) - parts[drawn].largest);
  return {drawn, before * scale, static_cast<float>(log(total * scale))};
}

// The sum over the threads before this one, in an order that is always the same.
__device__ float sum_before(float mine, float* of_warps) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float upto = mine;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const float other = __shfl_up_sync(0xffffffffu, upto, distance);
    if (lane >= distance) upto += other;
  }
  if (lane == 31) of_warps[warp] = upto;
  const float before_in_warp = __shfl_up_sync(0xffffffffu, upto, 1);
  __syncthreads();
  float before = lane == 0 ? 0 : before_in_warp;
  for (int w = 0; w < warp; ++w) before += of_warps[w];
  return before;
}

// The drawn element is the last that has a weight and begins no later than the draw, within the last thread of which
// this can be said: rounding may move a border, but always leaves one.
__global__ void __launch_bounds__(threads)
    draw_from_parts(int32_t* token, float* log_prob, float* logit, const weights_of_part* parts, int num_parts,
                    row_view<const float> x, const double* uniform, const float* temperature, const float* least,
                    const int32_t* last_kept, int width, int part) {
  __shared__ drawn_part drawn;
  __shared__ float of_warps[warps];
  __shared__ int last, first_banned;
  await_previous_kernel();
  const int64_t r = blockIdx.x;
  const float* row = x.at(r);
  const weights weight(r, temperature, least, last_kept);
  parts += r * num_parts;
  if (threadIdx.x == 0) {
    drawn = draw_part(parts, num_parts, uniform[r]);
    last = -1;
    first_banned = width;
  }
  __syncthreads();
  if (drawn.index < 0) {
    for (int i = threadIdx.x; i < width; i += threads)
      if (row[i] == -INFINITY) atomicMin(&first_banned, i);
    __syncthreads();
    if (threadIdx.x != 0) return;
    token[r] = first_banned < width ? first_banned : -1;
    log_prob[r] = 0;
    logit[r] = first_banned < width ? -INFINITY : NAN;
    return;
  }
  const float largest = parts[drawn.index].largest;
  const int each = (part + threads - 1) / threads, part_end = min((drawn.index + 1) * part, width);
  const int begin = min(drawn.index * part + static_cast<int>(threadIdx.x) * each, part_end);
  const int end = min(begin + each, part_end);
  float mine = 0;
  for (int i = begin; i < end; ++i) mine += weight(row[i], i, largest);
  float before = sum_before(mine, of_warps);
  if (mine > 0 && before <= drawn.remaining) atomicMax(&last, static_cast<int>(threadIdx.x));
  __syncthreads();
  if (threadIdx.x != last) return;
  int chosen = -1;
  for (int i = begin; i < end; ++i) {
    const float w = weight(row[i], i, largest);
    if (w > 0 && before <= drawn.remaining) chosen = i;
    before += w;
  }
  token[r] = chosen;
  logit[r] = row[chosen];
  log_prob[r] = row[chosen] / weight.t - largest - drawn.log_sum;
}

}  // namespace

void sample(exec& ex, const sample_args& a) {
  const int64_t rows = a.x.shape[0], width = a.x.shape[1];
  if (rows == 0) return;
  const row_parts cut(width);
  const dim3 grid = cut.grid(rows, "sample");
  arena::scope scope(ex.scratch);
  auto* parts = ex.scratch.make<weights_of_part>(rows * cut.count);
  const auto x = rows_of<const float>(a.x);
  const auto *temperature = a.temperature.as<const float>(), *least = a.least.as<const float>();
  const auto* last = a.last.as<const int32_t>();
  launch_kernel(ex, "sample", {grid, threads}, sum_parts, parts, x, temperature, least, last, static_cast<int>(width),
                static_cast<int>(cut.size));
  launch_kernel(ex, "sample", {grid_size(rows, "sample"), threads}, draw_from_parts, a.token.as<int32_t>(),
                a.log_prob.as<float>(), a.logit.as<float>(), parts, static_cast<int>(cut.count), x,
                a.uniform.as<const double>(), temperature, least, last, static_cast<int>(width),
                static_cast<int>(cut.size));
}

}  // namespace ft::cuda
