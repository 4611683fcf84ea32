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

tile_map map_of_tiles(const void* data, dtype type, int64_t rows, int64_t columns, int64_t stride, int box_rows,
                      int slabs) {
  static const auto encode = find_encode();
  const bool whole = columns % 64 == 0;
  const cuuint64_t width = whole ? 64 : static_cast<cuuint64_t>(columns), depth = whole ? columns / 64 : 1;
  const cuuint64_t shape[3] = {width, static_cast<cuuint64_t>(rows), depth};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(stride) * 2, 128};
  tile_map tiles{.slabs = whole ? slabs : 1, .whole_slabs = whole};
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(box_rows), static_cast<cuuint32_t>(tiles.slabs)};
  const cuuint32_t steps[3] = {1, 1, 1};
  const CUresult result =
      encode(&tiles.map, type == dtype::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
             const_cast<void*>(data), shape, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    fail(FT_ERROR_INTERNAL, "mapping ", rows, " rows of ", columns, " for tile copies: CUDA error ", int{result});
  return tiles;
}

}  // namespace ft::cuda
