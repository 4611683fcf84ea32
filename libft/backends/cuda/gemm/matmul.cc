#include "backends/cuda/gemm/matmul.h"

#include <cuda_runtime_api.h>

#include <bit>
#include <map>
#include <mutex>
#include <tuple>

#include "backends/cuda/gemm/cublas_lt.h"
#include "backends/cuda/launch.h"

namespace ft::cuda {
namespace {

constexpr size_t workspace_bytes = size_t{32} << 20;
constexpr size_t workspace_alignment = 256;  // cuBLASLt refuses less

void check_lt(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(status == CUBLAS_STATUS_ALLOC_FAILED ? FT_ERROR_OUT_OF_MEMORY : FT_ERROR_INTERNAL, "cuBLASLt ", what,
         " failed with status ", static_cast<int>(status));
}

cudaDataType_t data_type(dtype type) {
  switch (type) {
    case dtype::f16:
      return CUDA_R_16F;
    case dtype::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

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
const void* epilogue_bias(const linear_args& a) {
  const void* bias = a.out.type == dtype::f32 ? a.bias : a.rounded_bias;
  return in_vectors(bias) ? bias : nullptr;
}

// What an algorithm is chosen by.
struct shape {
  int device;
  int64_t rows, out_features, in_features, x_stride, out_stride, addend_stride;
  dtype type, out_type;
  uint32_t x_alignment, out_alignment, addend_alignment;
  cublasLtEpilogue_t epilogue;

  auto operator<=>(const shape&) const = default;
};

// cuBLASLt writes columns where we have rows, so it computes outᵀ = weight · xᵀ. Handles are released with the process.
struct plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, addend = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algo{};
  bool usable = false;
};

cublasLtMatrixLayout_t layout(const cublas_lt& lt, dtype type, int64_t rows, int64_t columns, int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_lt(
      lt.layout_create(&made, data_type(type), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), stride),
      "layout");
  return made;
}

plan choose(const cublas_lt& lt, cublasLtHandle_t handle, const shape& s) {
  plan p;
  check_lt(lt.desc_create(&p.desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
  const auto describe = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    check_lt(lt.desc_set(p.desc, what, &value, sizeof value), "descriptor");
  };
  describe(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  describe(CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue);
  describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(s.out_type));
  p.weight = layout(lt, s.type, s.in_features, s.out_features, s.in_features);
  p.x = layout(lt, s.type, s.in_features, s.rows, s.x_stride);
  p.addend = layout(lt, s.out_type, s.out_features, s.rows, s.addend_stride);
  p.out = layout(lt, s.out_type, s.out_features, s.rows, s.out_stride);

  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(lt.preference_create(&preference), "preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check_lt(lt.preference_set(preference, what, &value, sizeof value), "preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.x_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.addend_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.out_alignment);
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
  const cublasStatus_t status =
      lt.heuristic(handle, p.desc, p.weight, p.x, p.addend, p.out, preference, 1, &found, &count);
  lt.preference_destroy(preference);
  p.usable = status == CUBLAS_STATUS_SUCCESS && count > 0;
  if (p.usable) p.algo = found.algo;
  return p;
}

// Handles and plans of every device. They outlive every model: what was chosen once serves the next one too.
class planner {
 public:
  explicit planner(const cublas_lt& lt) : lt_(lt) {}

  struct planned {
    cublasLtHandle_t handle;
    const plan* how;
  };

  planned find(const shape& s) {
    std::lock_guard lock(mutex_);
    cublasLtHandle_t& handle = handles_[s.device];
    if (!handle) check_lt(lt_.create(&handle), "handle");
    auto it = plans_.find(s);
    if (it == plans_.end()) it = plans_.emplace(s, choose(lt_, handle, s)).first;
    return {handle, &it->second};
  }

 private:
  const cublas_lt& lt_;
  std::mutex mutex_;
  std::map<int, cublasLtHandle_t> handles_;
  std::map<shape, plan> plans_;
};

planner& plans() {
  static auto* all = new planner(open_cublas_lt());
  return *all;
}

}  // namespace

// Half-precision operands have to start at even elements; the weight's own rows follow each other without a gap.
bool matmul_takes(const linear_args& a) {
  if (a.x.type == dtype::f32) return true;
  const auto even = [](const tensor& t) {
    return reinterpret_cast<uintptr_t>(t.data) % 4 == 0 && (t.dim(0) < 2 || t.stride[0] % 2 == 0);
  };
  return a.weight->in_features % 2 == 0 && even(a.x) && even(a.out);
}

linear_args matmul(exec& ex, const linear_args& a) {
  const cuda_weight& weight = on_gpu(*a.weight);
  // The residual is added to the product, before an activation if there is one: then it has to wait.
  const bool adds = a.residual && a.activation == activation_kind::none;
  const tensor& added = adds ? a.residual : a.out;
  const void* bias = epilogue_bias(a);
  const bool finishes = has_epilogue(a.activation) && (bias || !a.bias);
  shape s{.rows = a.x.dim(0),
          .out_features = weight.out_features,
          .in_features = weight.in_features,
          .x_stride = std::max(a.x.stride[0], weight.in_features),
          .out_stride = std::max(a.out.stride[0], weight.out_features),
          .addend_stride = std::max(added.stride[0], weight.out_features),
          .type = weight.type,
          .out_type = a.out.type,
          .x_alignment = alignment_of(a.x.data),
          .out_alignment = alignment_of(a.out.data),
          .addend_alignment = alignment_of(added.data),
          .epilogue = finishes ? epilogue_of(a.activation, bias) : CUBLASLT_EPILOGUE_DEFAULT};
  check(cudaGetDevice(&s.device), "asking for the GPU");
  const cublas_lt& lt = open_cublas_lt();
  auto [handle, how] = plans().find(s);
  if (!how->usable && s.epilogue != CUBLASLT_EPILOGUE_DEFAULT) {
    s.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    how = plans().find(s).how;
  }
  check_lt(how->usable ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED, "choice of an algorithm");

  cublasLtMatmulDescOpaque_t desc = *how->desc;  // other threads use the plan with a bias of their own
  const bool biased = s.epilogue != CUBLASLT_EPILOGUE_DEFAULT && bias;
  if (biased) check_lt(lt.desc_set(&desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias), "descriptor");
  arena::scope scope(ex.scratch);
  auto workspace = reinterpret_cast<uintptr_t>(ex.scratch.allocate(workspace_bytes + workspace_alignment));
  workspace = (workspace + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
  const float one = 1, beta = adds ? 1 : 0;
  check_lt(
      lt.matmul(handle, &desc, &one, weight.values.data, how->weight, a.x.data, how->x, &beta, added.data, how->addend,
                a.out.data, how->out, &how->algo, reinterpret_cast<void*>(workspace), workspace_bytes, stream_of(ex)),
      "product");

  linear_args left = a;
  left.x = a.out;
  if (adds) left.residual = {};
  if (finishes && s.epilogue == epilogue_of(a.activation, bias)) {
    left.bias = nullptr;
    left.activation = activation_kind::none;
  }
  return left;
}

}  // namespace ft::cuda
