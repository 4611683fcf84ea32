// The device alone does not say it: code may have been compiled for an older one, as a build for 8.0 with PTX runs on
// 9.0, and then does nothing where it would need the newer. So a kernel is asked which of its variants would run here.
#include <array>
#include <mutex>

#include "backends/cuda/kernel/capabilities.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int unit = 1024;  // of shared memory, beyond what its size may be rounded by

// Its shared memory tells: units as many as the first number of the compute capability, and half of one where products
// of warpgroups are compiled.
__global__ void compiled_variant() {
#ifdef __CUDA_ARCH__
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int bytes = __CUDA_ARCH__ / 100 * unit + unit / 2;
#else
  constexpr int bytes = __CUDA_ARCH__ / 100 * unit;
#endif
  __shared__ volatile char told[bytes];
  told[threadIdx.x] = 0;
#endif
}

device_capabilities ask() {
  cudaFuncAttributes variant{};
  check(cudaFuncGetAttributes(&variant, compiled_variant), "asking which kernels run on the GPU");
  const auto bytes = static_cast<int>(variant.sharedSizeBytes);
  const int generation = bytes / unit;
  constexpr int deep_rings = 227 * 1024;
  return {.tensor_cores = generation >= 8,
          .dependent_launch = generation >= 9,
          .clusters = generation >= 9,
          .tile_copies = generation >= 9 && device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) >= deep_rings,
          .warpgroup_products = bytes % unit >= unit / 2};
}

}  // namespace

const device_capabilities& capabilities() {
  struct entry {
    std::once_flag asked;
    device_capabilities found;
  };
  static std::array<entry, 64> known;
  int device = 0;
  check(cudaGetDevice(&device), "asking for the GPU");
  if (static_cast<size_t>(device) >= known.size())
    fail(FT_ERROR_UNSUPPORTED, "cuda:", device, " is beyond the ", known.size(), " GPUs that are told apart");
  entry& e = known[static_cast<size_t>(device)];
  std::call_once(e.asked, [&] { e.found = ask(); });
  return e.found;
}

}  // namespace ft::cuda
