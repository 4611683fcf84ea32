// A few rows times the weights on tensor cores, at the speed of reading the weights once.
//
// The weights are the left operand of mma m16n8k16, 16 features at a time, and the rows are its columns, 8 at a time.
// No shared memory feeds it: which of a product's 16 terms is called which does not matter as long as both operands
// agree, so lane (g, t) = (lane / 4, lane % 4) takes elements 8 t .. 8 t + 7 of 32 consecutive ones, in one load of 16
// bytes from features g and g + 8 and from row g, and two mma eat them, four elements each.
//
// The warps of a block share the input features, 64 consecutive ones in turn, and add up in shared memory. Their number
// follows from the weight alone, so that a row's result is the same to the bit for 2 to 32 rows.
#include "backends/cuda/activate.h"
#include "backends/cuda/gemm/few_rows.h"
#include "backends/cuda/launch.h"
#include "backends/cuda/tensor_core.h"

namespace ft::cuda {
namespace {

constexpr int chunk = 64;      // input features a warp takes at once: 128 bytes of a row
constexpr int prefetched = 3;  // chunks of each warp

template <class T, class Out>
struct tile_args {
  row_view<const T> x;
  const T* weight;
  row_view<Out> out;
  row_view<const Out> residual;
  const float* bias;
  activation_kind kind;
  int rows, in_features, out_features;
};

// Past the first-level cache: a weight is read once.
__device__ uint4 load_weight(const void* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(__cvta_generic_to_global(from)));
  return v;
}

// M times 16 features and N times 8 rows a block. Features and rows behind the last are the last again, and not
// written.
template <class T, class Out, int M, int N>
__global__ void __launch_bounds__(512, N == 1 ? 2 : 1) multiply_tiles(const tile_args<T, Out> a) {
#if __CUDA_ARCH__ >= 800
  extern __shared__ float partial[];  // [warps][8 N][stride]: a feature's sums stand side by side
  constexpr int features = 16 * M, rows = 8 * N, stride = features + 4;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32, g = lane / 4, t = lane % 4;
  const int first = blockIdx.x * features;
  const T *weight[M][2], *x[N];
#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      weight[m][h] = a.weight + int64_t{min(first + 16 * m + 8 * h + g, a.out_features - 1)} * a.in_features;
#pragma unroll
  for (int n = 0; n < N; ++n) x[n] = a.x.at(min(8 * n + g, a.rows - 1));
  // Weights come from no other kernel: the first of them are on their way while the one before ends.
  for (int k = warp * chunk + 16 * t, end = min(a.in_features, k + prefetched * warps * chunk); k < end;
       k += warps * chunk)
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
      for (int h = 0; h < 2; ++h) prefetch(weight[m][h] + k);
  await_previous_kernel();

  float sum[M][N][4] = {};
#pragma unroll 2
  for (int begin = warp * chunk; begin < a.in_features; begin += warps * chunk) {
    uint4 w[2][M][2], v[2][N];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int k = begin + 32 * half + 8 * t;
      const bool inside = k < a.in_features;
#pragma unroll
      for (int m = 0; m < M; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) w[half][m][h] = inside ? load_weight(weight[m][h] + k) : uint4{};
#pragma unroll
      for (int n = 0; n < N; ++n) v[half][n] = inside ? *reinterpret_cast<const uint4*>(x[n] + k) : uint4{};
    }
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int m = 0; m < M; ++m) {
        const uint4 &low = w[half][m][0], &high = w[half][m][1];
        const uint32_t front[4] = {low.x, high.x, low.y, high.y}, back[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
        for (int n = 0; n < N; ++n) {
          multiply_add<T>(sum[m][n], front, v[half][n].x, v[half][n].y);
          multiply_add<T>(sum[m][n], back, v[half][n].z, v[half][n].w);
        }
      }
  }

#pragma unroll
  for (int m = 0; m < M; ++m)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        partial[(warp * rows + 8 * n + 2 * t + e % 2) * stride + 16 * m + g + e / 2 * 8] = sum[m][n][e];
  __syncthreads();
  for (int i = threadIdx.x; i < features * a.rows; i += blockDim.x) {
    const int r = i / features, f = i % features, feature = first + f;
    if (feature >= a.out_features) continue;
    float y[1] = {a.bias ? a.bias[feature] : 0.f};
    for (int w = 0; w < warps; ++w) y[0] += partial[(w * rows + r) * stride + f];
    activate<1>(a.kind, y);
    if (a.residual) y[0] += widen(*a.residual.at(r, feature));
    *a.out.at(r, feature) = narrow<Out>(y[0]);
  }
#endif
}

// Blocks of 8 warps where there are enough for every multiprocessor to have two (of 132, in blocks of 32 features),
// else of 16: the bytes that are under way at a time are what makes the speed.
int threads_for(int64_t out_features) { return out_features >= 2 * 132 * 32 ? 256 : 512; }

template <int M, int N, class T, class Out>
void launch(exec& ex, const tile_args<T, Out>& a) {
  constexpr int features = 16 * M, rows = 8 * N;
  const int threads = threads_for(a.out_features);
  const size_t bytes = sizeof(float) * static_cast<size_t>(threads / 32 * rows * (features + 4));
  launch_kernel(ex, "linear",
                {grid_size(ceil_div(a.out_features, features), "linear"), static_cast<unsigned>(threads), bytes},
                multiply_tiles<T, Out, M, N>, a);
}

template <class T, class Out>
void multiply(exec& ex, const linear_args& l, const cuda_weight& weight) {
  tile_args<T, Out> a{.x = rows_of<const T>(l.x),
                      .weight = weight.values.as<const T>(),
                      .out = rows_of<Out>(l.out),
                      .bias = l.bias,
                      .kind = l.activation,
                      .rows = static_cast<int>(l.x.dim(0)),
                      .in_features = static_cast<int>(weight.in_features),
                      .out_features = static_cast<int>(weight.out_features)};
  if (l.residual) a.residual = rows_of<const Out>(l.residual);
  if (a.rows <= 8) return launch<1, 1>(ex, a);
  if (a.rows <= 16) return launch<2, 2>(ex, a);
  if (a.rows <= 24) return launch<2, 3>(ex, a);
  launch<2, 4>(ex, a);
}

template <class T>
void multiply(exec& ex, const linear_args& l, const cuda_weight& weight) {
  if (l.out.type == dtype::f32)
    multiply<T, float>(ex, l, weight);
  else
    multiply<T, T>(ex, l, weight);
}

}  // namespace

bool on_tensor_cores(const linear_args& args, const cuda_weight& weight) {
  if (args.x.type == dtype::f32 || !in_vectors({&args.x, &weight.values})) return false;
  return device_generation() >= 8;
}

int64_t most_few_rows(const linear_args& args, const cuda_weight& weight) {
  return on_tensor_cores(args, weight) ? 32 : 8;
}

void multiply_few_rows_on_tensor_cores(exec& ex, const linear_args& args, const cuda_weight& weight) {
  if (args.x.type == dtype::f16)
    multiply<__half>(ex, args, weight);
  else
    multiply<__nv_bfloat16>(ex, args, weight);
}

}  // namespace ft::cuda
