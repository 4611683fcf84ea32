#include "backends/cuda/attention/tensor_map.h"

#include "backends/cuda/launch.h"

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

// Three axes, the innermost dense; strides in elements of 16 bits. Columns beyond the innermost axis read as zeros.
CUtensorMap map_of(const void* data, dtype type, const int64_t (&size)[3], const int64_t (&stride)[2], int box_1,
                   int box_2) {
  static const encode_function encode = find_encode();
  cuuint64_t sizes[3], strides[2];
  for (int i = 0; i < 3; ++i) sizes[i] = static_cast<cuuint64_t>(size[i]);
  for (int i = 0; i < 2; ++i) strides[i] = static_cast<cuuint64_t>(size[i + 1] > 1 ? stride[i] * 2 : 16);
  const cuuint32_t box[3] = {panel_columns_16, static_cast<cuuint32_t>(box_1), static_cast<cuuint32_t>(box_2)};
  const cuuint32_t every_element[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode(&map, type == dtype::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
             const_cast<void*>(data), sizes, strides, box, every_element, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    fail(FT_ERROR_INTERNAL, "attention: the driver refuses a tensor map (", static_cast<int>(status), ") of ", size[0],
         " x ", size[1], " x ", size[2], ", strides ", stride[0], " and ", stride[1]);
  return map;
}

}  // namespace

bool tiles_can_be_copied(const attention_problem& p) {
  return p.vectors && p.type != dtype::f32 && p.key_type == p.type &&
         (!p.paged || p.pages.page_tokens % page_box_tokens == 0);
}

CUtensorMap map_of_queries(const attention_problem& p, int tokens) {
  return map_of(p.query, p.type, {p.head_dim, p.heads, p.tokens}, {p.query_head_stride, p.query_stride}, 1, tokens);
}

CUtensorMap map_of_keys(const attention_problem& p, int tokens) {
  return map_of(p.keys, p.type, {p.head_dim, p.kv_heads, p.key_tokens}, {p.key_head_stride, p.key_stride}, 1, tokens);
}

CUtensorMap map_of_values(const attention_problem& p, int tokens) {
  return map_of(p.values, p.type, {p.head_dim, p.kv_heads, p.key_tokens}, {p.value_head_stride, p.value_stride}, 1,
                tokens);
}

// How many pages a pool has is not said; tables name only pages that there are.
CUtensorMap map_of_pages(const attention_problem& p, const void* pool) {
  return map_of(pool, p.type, {p.head_dim, p.pages.page_tokens, 0x7fffffff},
                {p.head_dim, int64_t{p.pages.page_tokens} * p.head_dim}, page_box_tokens, 1);
}

}  // namespace ft::cuda
