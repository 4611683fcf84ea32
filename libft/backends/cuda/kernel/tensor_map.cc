#include "backends/cuda/kernel/tensor_map.h"

#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

using encode_function = decltype(&cuTensorMapEncodeTiled);

// The driver's own, found at run time: nothing is linked with the driver.
encode_function find_encode() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result),
        "asking the driver for tensor maps");
#else
  check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result),
        "asking the driver for tensor maps");
#endif
  if (!found || result != cudaDriverEntryPointSuccess)
    fail(FT_ERROR_UNSUPPORTED, "the GPU's driver knows no tensor maps; install one of CUDA 12 or newer");
  return reinterpret_cast<encode_function>(found);
}

}  // namespace

CUtensorMap map_of(const mapped_tensor& t) {
  static const encode_function encode = find_encode();
  cuuint64_t sizes[3], strides[2];
  cuuint32_t box[3];
  for (int i = 0; i < 3; ++i) sizes[i] = static_cast<cuuint64_t>(t.size[i]);
  for (int i = 0; i < 3; ++i) box[i] = static_cast<cuuint32_t>(t.box[i]);
  for (int i = 0; i < 2; ++i) strides[i] = static_cast<cuuint64_t>(t.stride[i]) * 2;
  const cuuint32_t every_element[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map, t.type == dtype::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
             const_cast<void*>(t.data), sizes, strides, box, every_element, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    fail(FT_ERROR_INTERNAL, "the driver refuses a tensor map (", static_cast<int>(status), ") of ", t.size[0], " x ",
         t.size[1], " x ", t.size[2], ", strides ", t.stride[0], " and ", t.stride[1]);
  return map;
}

}  // namespace ft::cuda
