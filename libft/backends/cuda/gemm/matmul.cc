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

// What an algorithm is chosen by.
struct shape {
  int device;
  int64_t rows, out_features, in_features, x_stride, out_stride, addend_stride;
  dtype type, out_type;
  uint32_t x_alignment, out_alignment, addend_alignment;

  auto operator<=>(const shape&) const = default;
};

// cuBLASLt writes columns where we have rows, so it computes outᵀ = weight · xᵀ. Handles are released with the process.
struct plan {
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, addend = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algo{};
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
  const cublasOperation_t transposed = CUBLAS_OP_T;
  check_lt(lt.desc_set(p.desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "descriptor");
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
  check_lt(count > 0 ? status : CUBLAS_STATUS_NOT_SUPPORTED, "choice of an algorithm");
  p.algo = found.algo;
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
bool matmul_takes(const tensor& out, const tensor& x, const cuda_weight& weight) {
  if (x.type == dtype::f32) return true;
  const auto even = [](const tensor& t) {
    return reinterpret_cast<uintptr_t>(t.data) % 4 == 0 && (t.dim(0) < 2 || t.stride[0] % 2 == 0);
  };
  return weight.in_features % 2 == 0 && even(x) && even(out);
}

void matmul(exec& ex, const tensor& out, const tensor& x, const cuda_weight& weight, const tensor& addend) {
  const tensor& added = addend ? addend : out;
  shape s{.rows = x.dim(0),
          .out_features = weight.out_features,
          .in_features = weight.in_features,
          .x_stride = std::max(x.stride[0], weight.in_features),
          .out_stride = std::max(out.stride[0], weight.out_features),
          .addend_stride = std::max(added.stride[0], weight.out_features),
          .type = weight.type,
          .out_type = out.type,
          .x_alignment = alignment_of(x.data),
          .out_alignment = alignment_of(out.data),
          .addend_alignment = alignment_of(added.data)};
  check(cudaGetDevice(&s.device), "asking for the GPU");
  const cublas_lt& lt = open_cublas_lt();
  const auto [handle, how] = plans().find(s);
  arena::scope scope(ex.scratch);
  auto workspace = reinterpret_cast<uintptr_t>(ex.scratch.allocate(workspace_bytes + workspace_alignment));
  workspace = (workspace + workspace_alignment - 1) / workspace_alignment * workspace_alignment;
  const float one = 1, beta = addend ? 1 : 0;
  check_lt(lt.matmul(handle, how->desc, &one, weight.values.data, how->weight, x.data, how->x, &beta, added.data,
                     how->addend, out.data, how->out, &how->algo, reinterpret_cast<void*>(workspace), workspace_bytes,
                     stream_of(ex)),
           "product");
}

}  // namespace ft::cuda
