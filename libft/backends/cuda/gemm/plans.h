// How cuBLASLt computes a product: the algorithm chosen for its shape, by the library's own heuristic or by timing
// (tune()). Choices of the second kind are kept in a file and serve later processes.
#pragma once

#include <cuda_runtime_api.h>

#include <compare>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backends/cuda/gemm/algorithm_file.h"
#include "backends/cuda/gemm/cublas_lt.h"
#include "ops/backend.h"

namespace ft::cuda {

inline constexpr size_t matmul_workspace_bytes = size_t{32} << 20;

void check_lt(cublasStatus_t status, const char* what);

// What an algorithm is chosen by. cuBLASLt writes columns where we have rows, so it computes outᵀ = weight · xᵀ.
struct product_shape {
  int64_t rows, out_features, in_features, x_stride, out_stride, addend_stride;
  dtype type, out_type;
  uint32_t x_alignment, out_alignment, addend_alignment;
  cublasLtEpilogue_t epilogue;

  auto operator<=>(const product_shape&) const = default;

  // What a tuned algorithm is kept under: it serves all row counts up to the next power of two.
  std::string range() const;
};

// One call's memory; out = weight · x + beta · addend, and what the epilogue adds.
struct product_operands {
  const void *weight, *x, *addend, *bias;
  void *out, *workspace;
  float beta;
  cudaStream_t stream;
};

struct plan {
  explicit plan(const cublas_lt& library) : lt(library) {}
  plan(const plan&) = delete;
  plan& operator=(const plan&) = delete;
  ~plan();

  const cublas_lt& lt;
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, addend = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algo{};
  bool usable = false;  // there is an algorithm

  cublasStatus_t multiply(const product_operands& o, const cublasLtMatmulAlgo_t& by) const;
};

// Of one GPU; lives as long as the process. All members are thread-safe.
class planner {
 public:
  explicit planner(int device);

  std::shared_ptr<const plan> find(const product_shape& shape, const product_operands& operands);

  // Times the candidates of every shape that `passes` asks for, and keeps the winners.
  std::vector<tuned_product> tune(const std::function<void()>& passes);

  tuning_state state();

 private:
  std::shared_ptr<plan> make(const product_shape& shape);
  std::vector<cublasLtMatmulAlgo_t> candidates(const plan& p, const product_shape& shape, int most);
  bool takes(const plan& p, const algorithm& kept, cublasLtMatmulAlgo_t& algo);
  void time_candidates(plan& p, const product_shape& shape, product_operands operands);

  const cublas_lt& lt_;
  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_, tuning_mutex_;
  std::map<product_shape, std::shared_ptr<plan>> plans_;
  algorithm_file file_;
  bool tuning_ = false;
  std::set<std::string> timed_;  // ranges, while tuning
  std::vector<tuned_product> results_;
};

planner& plans_of(int device);

}  // namespace ft::cuda
