// How cuBLASLt computes a product: the algorithm chosen for its shape and a step of rows (row_steps.h), by the
// library's own heuristic or by timing (tune()). Choices of the second kind are kept in a file and serve later
// processes.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <compare>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "backends/cuda/gemm/cublas_lt/algorithm_file.h"
#include "backends/cuda/gemm/cublas_lt/cublas_lt.h"
#include "core/lru_cache.h"
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

// A shape's algorithm and the descriptors of its operands.
class chosen_algorithm {
 public:
  chosen_algorithm(const cublas_lt& library, cublasLtHandle_t handle, const product_shape& shape);
  chosen_algorithm(const chosen_algorithm&) = delete;
  chosen_algorithm& operator=(const chosen_algorithm&) = delete;
  ~chosen_algorithm();

  bool usable() const { return usable_; }  // there is an algorithm
  const cublasLtMatmulAlgo_t& algorithm() const { return algorithm_; }
  void use(const cublasLtMatmulAlgo_t& algorithm);
  // Whether cuBLASLt can compute so many rows by it: those that it was chosen for, and as a rule fewer.
  bool takes_rows(int64_t rows) const;
  // The same of any algorithm for the shape's own rows.
  bool takes(const cublasLtMatmulAlgo_t& algorithm) const;

  // Best first, by cuBLASLt's own judgement.
  std::vector<cublasLtMatmulAlgo_t> candidates(int most) const;

  cublasStatus_t multiply(const product_operands& o, int64_t rows, const cublasLtMatmulAlgo_t& by) const;

 private:
  // The descriptors for another number of rows; by value, since threads share an algorithm.
  struct layouts {
    cublasLtMatrixLayoutOpaque_t x, addend, out;
  };
  layouts layouts_for(int64_t rows) const;
  bool takes(const cublasLtMatmulAlgo_t& algorithm, layouts of) const;

  const cublas_lt& lt_;
  cublasLtHandle_t handle_;
  product_shape shape_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t weight_ = nullptr, x_ = nullptr, addend_ = nullptr, out_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
  bool usable_ = false;
  mutable std::atomic<int64_t> last_rows_{0};  // that it was found to take: the layers of a pass ask for the same
};

// Of one GPU; lives as long as the process. All members are thread-safe.
class heuristics {
 public:
  explicit heuristics(int device);

  std::shared_ptr<const chosen_algorithm> find(const product_shape& shape, const product_operands& operands);

  // Times the candidates of every shape that `passes` asks for, and keeps the winners.
  std::vector<tuned_product> tune(const std::function<void()>& passes);

  tuning_state state();

 private:
  using shared_algorithm = std::shared_ptr<chosen_algorithm>;
  shared_algorithm find_or_choose(const product_shape& shape);
  shared_algorithm choose(const product_shape& shape);
  shared_algorithm choose_by_time(const product_shape& shape, product_operands operands);
  bool is_to_be_timed(const product_shape& shape);

  const cublas_lt& lt_;
  cublasLtHandle_t handle_ = nullptr;
  std::mutex mutex_, tuning_mutex_;  // nothing is chosen or timed while mutex_ is held
  lru_cache<product_shape, shared_algorithm> chosen_;
  algorithm_file file_;
  bool tuning_ = false;
  std::set<std::string> timed_;  // ranges, while tuning
  std::vector<tuned_product> results_;
};

heuristics& heuristics_of(int device);

}  // namespace ft::cuda
