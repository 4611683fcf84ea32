#include "backends/cuda/gemm/tensor_map.h"

#include "backends/cuda/launch.h"

namespace ft::cuda {
namespace {

// From the driver that the runtime has loaded: the plug-in does not link to it.
decltype(&cuTensorMapEncodeTiled) find_encode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult status{};
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &status),
        "asking for the driver's tensor maps");
#else
  check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &status),
        "asking for the driver's tensor maps");
#endif
  if (!found)
    fail(FT_ERROR_UNSUPPORTED, "NVIDIA's driver has no cuTensorMapEncodeTiled; install one for CUDA 12 or newer");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
}

}  // namespace

CUtensorMap map_of_tiles(const void* data, dtype type, int64_t rows, int64_t columns, int64_t stride, int box_rows) {
  static const auto encode = find_encode();
  const cuuint64_t shape[2] = {static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * 2};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(box_rows)}, steps[2] = {1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, type == dtype::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
             const_cast<void*>(data), shape, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    fail(FT_ERROR_INTERNAL, "mapping ", rows, " rows of ", columns, " for tile copies: CUDA error ", int{result});
  return map;
}

}  // namespace ft::cuda
