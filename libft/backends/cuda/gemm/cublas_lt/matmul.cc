#include "backends/cuda/gemm/cublas_lt/matmul.h"

#include <cuda_runtime_api.h>

#include <bit>

#include "backends/cuda/gemm/cublas_lt/heuristics.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr size_t workspace_alignment = 256;  // cuBLASLt refuses less

// The largest power of two up to 256 that divides the address.
uint32_t alignment_of(const void* data) {
  const auto bits = reinterpret_cast<uintptr_t>(data) | 256;
  return uint32_t{1} << std::countr_zero(bits);
}

// What cuBLASLt can do with the product before it writes it. Its GELU is the tanh approximation.
bool has_epilogue(activation_kind kind) {
  return kind == activation_kind::none || kind == activation_kind::relu || kind == activation_kind::gelu_tanh;
}

cublasLtEpilogue_t epilogue_of(activation_kind kind, bool bias) {
  switch (kind) {
    case activation_kind::relu:
      return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case activation_kind::gelu_tanh:
      return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default:
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// The bias in the dtype that the epilogue wants; null where there is none that it could read.
const void* epilogue_bias(const product& a) {
  const void* bias = a.out.type == dtype::f32 ? a.bias : a.rounded_bias;
  return in_vectors(bias) ? bias : nullptr;
}

// What of the args cuBLASLt adds by itself. A residual is added to the product, before an activation if there is one:
// then it has to wait.
bool adds_bias_and_activates(const product& a) { return has_epilogue(a.activation) && (epilogue_bias(a) || !a.bias); }
bool adds_residual(const product& a) { return a.residual && a.activation == activation_kind::none; }

}  // namespace

// Half-precision operands have to start at even elements; the weight's own rows follow each other without a gap.
bool matmul_takes(const product& a) {
  if (a.x.type == dtype::f32) return true;
  const auto even = [](const tensor& t) {
    return reinterpret_cast<uintptr_t>(t.data) % 4 == 0 && (t.dim(0) < 2 || t.stride[0] % 2 == 0);
  };
  return a.weight.in_features % 2 == 0 && even(a.x) && even(a.out);
}

bool matmul_finishes(const product& a) { return adds_bias_and_activates(a) && (adds_residual(a) || !a.residual); }

product matmul(exec& ex, const product& a) {
  const cuda_weight& weight = a.weight;
  const bool adds = adds_residual(a), finishes = adds_bias_and_activates(a);
  const tensor& added = adds ? a.residual : a.out;
  const void* bias = epilogue_bias(a);
  product_shape shape{.rows = a.x.dim(0),
                      .out_features = weight.out_features,
                      .in_features = weight.in_features,
                      .x_stride = std::max(a.x.stride[0], weight.in_features),
                      .out_stride = std::max(a.out.stride[0], weight.out_features),
                      .addend_stride = std::max(added.stride[0], weight.out_features),
                      .type = weight.values.type,
                      .out_type = a.out.type,
                      .x_alignment = alignment_of(a.x.data),
                      .out_alignment = alignment_of(a.out.data),
                      .addend_alignment = alignment_of(added.data),
                      .epilogue = finishes ? epilogue_of(a.activation, bias) : CUBLASLT_EPILOGUE_DEFAULT};
  arena::scope scope(ex.scratch);
  auto workspace = reinterpret_cast<uintptr_t>(ex.scratch.allocate(matmul_workspace_bytes + workspace_alignment));
  workspace = (workspace + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
  const product_operands operands{.weight = weight.values.data,
                                  .x = a.x.data,
                                  .addend = added.data,
                                  .bias = finishes ? bias : nullptr,
                                  .out = a.out.data,
                                  .workspace = reinterpret_cast<void*>(workspace),
                                  .beta = adds ? 1.f : 0.f,
                                  .stream = stream_of(ex)};
  int device = 0;
  check(cudaGetDevice(&device), "asking for the GPU");
  heuristics& algorithms = heuristics_of(device);
  auto how = algorithms.find(shape, operands);
  bool finished = finishes;
  if (!how->usable() && shape.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    shape.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    finished = false;
    how = algorithms.find(shape, operands);
  }
  if (!how->usable()) check_lt(CUBLAS_STATUS_NOT_SUPPORTED, "product");
  if (!ex.rehearses) check_lt(how->multiply(operands, shape.rows, how->algorithm()), "product");

  product left = a;
  left.x = a.out;
  if (adds) left.residual = {};
  if (finished) {
    left.bias = nullptr;
    left.activation = activation_kind::none;
  }
  return left;
}

}  // namespace ft::cuda
