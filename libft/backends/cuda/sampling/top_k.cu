// top_k: several blocks a row each find the best of a part of it, and the part's sum of exponentials, in one pass; a
// second kernel joins the parts. How a row is parted depends on its width alone, so that its result is the same to the
// bit whatever rows, and how many elements, are asked for beside it.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/reduce.h"
#include "backends/cuda/sampling/ranking.h"

namespace ft::cuda {
namespace {

// The largest bound that the best keys of `k` threads reach: then k keys of the block at least reach it, and k of each
// thread's at most. 1, which every key reaches, where fewer threads have a key.
template <int Threads>
__device__ ranked bound_of(ranked best, int k) {
  __shared__ ranked bests[Threads], bound;
  bests[threadIdx.x] = best;
  if (threadIdx.x == 0) bound = 1;
  __syncthreads();
  int before = 0;
#pragma unroll 8
  for (int i = 0; i < Threads; ++i) before += bests[i] > best;
  if (best != 0 && before == k - 1) bound = best;
  __syncthreads();
  return bound;
}

// take(rank, key) for the k greatest of the `count` keys in `survivors`, the greatest first, and for what lacks to k.
template <class Take>
__device__ void rank(const ranked* survivors, int count, int k, Take take) {
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const ranked mine = survivors[i];
    int before = 0;
    for (int j = 0; j < count; ++j) before += survivors[j] > mine;
    if (before < k) take(before, mine);
  }
  for (int i = count + threadIdx.x; i < k; i += blockDim.x) take(i, 0);
}

struct sum_of_part {
  float largest;  // -infinity: no number
  float sum;      // of exponentials of the difference from it
};

__global__ void __launch_bounds__(part_threads) top_k_of_parts(ranked* keys, sum_of_part* sums, row_view<const float> x,
                                                               const float* temperature, int width, int part, int k) {
  extern __shared__ ranked survivors[];
  __shared__ float partial[32];
  __shared__ int found;
  await_previous_kernel();
  const int begin = blockIdx.x * part, end = min(begin + part, width);
  const float* row = x.at(blockIdx.y);
  if (threadIdx.x == 0) found = 0;
  ranked best = 0;
#pragma unroll 8
  for (int i = begin + threadIdx.x; i < end; i += part_threads) best = max(best, rank_of(row[i], i));
  const float t = temperature ? temperature[blockIdx.y] : 1;
  const float largest = block_reduce(value_of(best) / t, larger{}, -INFINITY, partial);
  const ranked bound = bound_of<part_threads>(best, k);
  float sum = 0;
#pragma unroll 8
  for (int i = begin + threadIdx.x; i < end; i += part_threads) {
    const float v = row[i];
    if (v != -INFINITY) sum += expf(v / t - largest);
    if (const ranked mine = rank_of(v, i); mine >= bound) survivors[atomicAdd(&found, 1)] = mine;
  }
  sum = block_reduce(sum, add_up{}, 0, partial);
  const int64_t at = blockIdx.y * static_cast<int64_t>(gridDim.x) + blockIdx.x;
  if (threadIdx.x == 0) sums[at] = {largest, sum};
  rank(survivors, found, k, [&](int j, ranked mine) { keys[at * k + j] = mine; });
}

// By one warp, in an order that depends on the number of parts alone.
__device__ float join_sums(const sum_of_part* parts, int count) {
  float largest = -INFINITY, sum = 0;
  for (int i = threadIdx.x; i < count; i += 32) largest = fmaxf(largest, parts[i].largest);
  largest = warp_reduce(largest, larger{});
  for (int i = threadIdx.x; i < count; i += 32)
    if (const sum_of_part p = parts[i]; p.largest != -INFINITY || isnan(p.sum))
      sum += p.sum * expf(p.largest - largest);
  return logf(warp_reduce(sum, add_up{}));
}

// A place for each of `count` numbers. Each part's keys are sorted: a thread that took neighbours, or the same rank of
// every part, would hold many of the best, and the bound that others' best keys reach would let too many survive. The
// factor is a prime above all that `count` is a product of.
__device__ int scattered(int i, int count) {
  static_assert(most_top_k < 7919 && row_parts::most < 7919);
  return i * 7919 % count;
}

template <int Threads>
__global__ void __launch_bounds__(Threads)
    top_k_of_rows(float* value, int32_t* index, float* log_sum, const ranked* keys, const sum_of_part* sums, int parts,
                  int k) {
  extern __shared__ ranked survivors[];
  __shared__ int found;
  await_previous_kernel();
  const int count = parts * k;
  const int64_t row = blockIdx.x;
  keys += row * count;
  if (threadIdx.x == 0) found = 0;
  const int each = (count + Threads - 1) / Threads;
  const int begin = min(static_cast<int>(threadIdx.x) * each, count), end = min(begin + each, count);
  ranked best = 0;
  for (int i = begin; i < end; ++i) best = max(best, keys[scattered(i, count)]);
  const ranked bound = bound_of<Threads>(best, k);
  for (int i = begin; i < end; ++i)
    if (const ranked mine = keys[scattered(i, count)]; mine >= bound) survivors[atomicAdd(&found, 1)] = mine;
  __syncthreads();
  rank(survivors, found, k, [&](int j, ranked mine) {
    value[row * k + j] = value_of(mine);
    index[row * k + j] = index_of(mine);
  });
  if (threadIdx.x >= 32) return;
  const float log = join_sums(sums + row * parts, parts);
  if (threadIdx.x == 0) log_sum[row] = log;
}

// Bytes of the keys that can reach a bound: k of each thread's.
size_t survivor_bytes(int64_t k, int64_t keys, int64_t threads) {
  return static_cast<size_t>(k * ceil_div(keys, threads)) * sizeof(ranked);
}

template <int Threads>
void join(exec& ex, const top_k_args& a, const ranked* keys, const sum_of_part* sums, int64_t parts) {
  const int64_t k = a.value.shape[1];
  launch_kernel(ex, "top_k", {grid_size(a.x.shape[0], "top_k"), Threads, survivor_bytes(k, parts * k, Threads)},
                top_k_of_rows<Threads>, a.value.as<float>(), a.index.as<int32_t>(), a.log_sum.as<float>(), keys, sums,
                static_cast<int>(parts), static_cast<int>(k));
}

}  // namespace

void top_k(exec& ex, const top_k_args& a) {
  const int64_t rows = a.x.shape[0], width = a.x.shape[1], k = a.value.shape[1];
  if (rows == 0) return;
  static_assert(most_top_k <= part_threads, "each of k threads gives a key");
  const row_parts parts(width);
  const dim3 grid = parts.grid(rows, "top_k");
  arena::scope scope(ex.scratch);
  ranked* keys = ex.scratch.make<ranked>(rows * parts.count * k);
  auto* sums = ex.scratch.make<sum_of_part>(rows * parts.count);
  launch_kernel(ex, "top_k", {grid, part_threads, survivor_bytes(k, parts.size, part_threads)}, top_k_of_parts, keys,
                sums, rows_of<const float>(a.x), a.temperature.as<const float>(), static_cast<int>(width),
                static_cast<int>(parts.size), static_cast<int>(k));
  if (parts.count * k <= 8 * 256)
    join<256>(ex, a, keys, sums, parts.count);
  else
    join<1024>(ex, a, keys, sums, parts.count);
}

}  // namespace ft::cuda
