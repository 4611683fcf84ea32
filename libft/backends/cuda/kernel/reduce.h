// Sums and maxima over a warp and over a block. The order of the additions depends on the number of threads alone, so
// a row's result is the same to the bit whatever rows are beside it.
#pragma once

namespace ft::cuda {

struct add_up {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct larger {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Every lane gets the result over `Lanes` neighbouring lanes.
template <int Lanes = 32, class Join>
__device__ inline float warp_reduce(float x, Join join) {
#pragma unroll
  for (int distance = Lanes / 2; distance > 0; distance /= 2) x = join(x, __shfl_xor_sync(0xffffffffu, x, distance));
  return x;
}

// Every thread gets the result over the block, whose threads are a multiple of 32 and all call. `shared` has 32 floats,
// free to be used again after a __syncthreads() or by another call of this.
template <class Join>
__device__ inline float block_reduce(float x, Join join, float identity, float* shared) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  x = warp_reduce(x, join);
  if (warps == 1) return x;
  __syncthreads();  // an earlier call's readers are done
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return warp_reduce(lane < warps ? shared[lane] : identity, join);
}

}  // namespace ft::cuda
