#include "backends/cuda/gemm/plans.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int most_candidates = 32, timed_runs = 7;

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(algorithm));

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

cublasLtMatrixLayout_t layout(const cublas_lt& lt, dtype type, int64_t rows, int64_t columns, int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check_lt(
      lt.layout_create(&made, data_type(type), static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), stride),
      "layout");
  return made;
}

// The GPU's and the library's names: what a tuned algorithm is good for.
std::string made_for(int device, const cublas_lt& lt) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking for the GPU's properties");
  return cat(properties.name, ", cuBLASLt ", lt.version());
}

// Memory for the time of a measurement.
class measuring_memory {
 public:
  explicit measuring_memory(size_t bytes) : bytes_(bytes) { check(cudaMalloc(&data_, bytes), "memory to tune in"); }
  measuring_memory(const measuring_memory&) = delete;
  measuring_memory& operator=(const measuring_memory&) = delete;
  ~measuring_memory() { cudaFree(data_); }
  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

class stopwatch {
 public:
  stopwatch() {
    check(cudaEventCreate(&begin_), "an event");
    check(cudaEventCreate(&end_), "an event");
  }
  stopwatch(const stopwatch&) = delete;
  stopwatch& operator=(const stopwatch&) = delete;
  ~stopwatch() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }

  // Microseconds that the stream takes for what `work` queues.
  template <class Work>
  double time(cudaStream_t stream, Work&& work) {
    check(cudaEventRecord(begin_, stream), "an event");
    work();
    check(cudaEventRecord(end_, stream), "an event");
    check(cudaEventSynchronize(end_), "timing a product");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_, end_), "timing a product");
    return 1e3 * static_cast<double>(ms);
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

bool is_recorded(cudaStream_t stream) {
  cudaStreamCaptureStatus status{};
  check(cudaStreamIsCapturing(stream, &status), "asking for the stream's state");
  return status != cudaStreamCaptureStatusNone;
}

}  // namespace

void check_lt(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(status == CUBLAS_STATUS_ALLOC_FAILED ? FT_ERROR_OUT_OF_MEMORY : FT_ERROR_INTERNAL, "cuBLASLt ", what,
         " failed with status ", static_cast<int>(status));
}

std::string product_shape::range() const {
  return cat(name(type), " to ", name(out_type), ", ", in_features, " x ", out_features, ", rows up to ",
             std::bit_ceil(static_cast<uint64_t>(rows)), ", epilogue ", static_cast<int>(epilogue));
}

plan::~plan() {
  for (const cublasLtMatrixLayout_t made : {weight, x, addend, out})
    if (made) lt.layout_destroy(made);
  if (desc) lt.desc_destroy(desc);
}

cublasStatus_t plan::multiply(const product_operands& o, const cublasLtMatmulAlgo_t& by) const {
  cublasLtMatmulDescOpaque_t own = *desc;  // other threads use the plan with a bias of their own
  if (o.bias) check_lt(lt.desc_set(&own, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o.bias, sizeof o.bias), "descriptor");
  const float one = 1;
  return lt.matmul(handle, &own, &one, o.weight, weight, o.x, x, &o.beta, o.addend, addend, o.out, out, &by,
                   o.workspace, matmul_workspace_bytes, o.stream);
}

planner::planner(int device) : lt_(open_cublas_lt()), file_(made_for(device, lt_)) {
  check_lt(lt_.create(&handle_), "handle");
}

std::shared_ptr<plan> planner::make(const product_shape& s) {
  auto p = std::make_shared<plan>(lt_);
  p->handle = handle_;
  check_lt(lt_.desc_create(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
  const auto describe = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    check_lt(lt_.desc_set(p->desc, what, &value, sizeof value), "descriptor");
  };
  describe(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  describe(CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue);
  describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(s.out_type));
  p->weight = layout(lt_, s.type, s.in_features, s.out_features, s.in_features);
  p->x = layout(lt_, s.type, s.in_features, s.rows, s.x_stride);
  p->addend = layout(lt_, s.out_type, s.out_features, s.rows, s.addend_stride);
  p->out = layout(lt_, s.out_type, s.out_features, s.rows, s.out_stride);
  return p;
}

// Best first, by cuBLASLt's own judgement.
std::vector<cublasLtMatmulAlgo_t> planner::candidates(const plan& p, const product_shape& s, int most) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(lt_.preference_create(&preference), "preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check_lt(lt_.preference_set(preference, what, &value, sizeof value), "preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, matmul_workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s.x_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s.addend_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s.out_alignment);
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(most));
  int count = 0;
  const cublasStatus_t status =
      lt_.heuristic(handle_, p.desc, p.weight, p.x, p.addend, p.out, preference, most, found.data(), &count);
  lt_.preference_destroy(preference);
  std::vector<cublasLtMatmulAlgo_t> algos;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i)
    if (found[static_cast<size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
      algos.push_back(found[static_cast<size_t>(i)].algo);
  return algos;
}

// A kept algorithm was tuned for another shape of its range: whether it can do this one.
bool planner::takes(const plan& p, const algorithm& kept, cublasLtMatmulAlgo_t& algo) {
  std::memcpy(&algo, kept.data(), sizeof algo);
  cublasLtMatmulHeuristicResult_t result{};
  return lt_.algo_check(handle_, p.desc, p.weight, p.x, p.addend, p.out, &algo, &result) == CUBLAS_STATUS_SUCCESS &&
         result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= matmul_workspace_bytes;
}

std::shared_ptr<const plan> planner::find(const product_shape& shape, const product_operands& operands) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<plan>& p = plans_[shape];
  if (!p) {
    p = make(shape);
    if (const algorithm* kept = file_.find(shape.range())) p->usable = takes(*p, *kept, p->algo);
    if (!p->usable) {
      const auto found = candidates(*p, shape, 1);
      p->usable = !found.empty();
      if (p->usable) p->algo = found.front();
    }
  }
  if (tuning_ && p->usable && !is_recorded(operands.stream) && timed_.insert(shape.range()).second)
    time_candidates(*p, shape, operands);
  return p;
}

// The weights are read from memory, as in a pass: what the cache held of them is overwritten before each run.
void planner::time_candidates(plan& p, const product_shape& shape, product_operands operands) {
  const measuring_memory flushed(2 * static_cast<size_t>(device_attribute(cudaDevAttrL2CacheSize)));
  const measuring_memory out(bytes_of(shape.out_type, shape.rows * shape.out_stride));
  operands.out = out.data();
  if (operands.beta == 0) operands.addend = out.data();
  stopwatch watch;
  tuned_product result{shape.range(), 0, std::numeric_limits<double>::infinity()};
  for (const cublasLtMatmulAlgo_t& algo : candidates(p, shape, most_candidates)) {
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run <= timed_runs; ++run) {
      check(cudaMemsetAsync(flushed.data(), run, flushed.bytes(), operands.stream), "tuning");
      cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
      const double us = watch.time(operands.stream, [&] { status = p.multiply(operands, algo); });
      if (status != CUBLAS_STATUS_SUCCESS) break;
      if (run > 0) best = std::min(best, us);  // the first loads the kernel
    }
    if (result.before_us == 0) result.before_us = best;
    if (best >= result.after_us) continue;
    result.after_us = best;
    p.algo = algo;
  }
  algorithm kept;
  std::memcpy(kept.data(), &p.algo, kept.size());
  file_.put(shape.range(), kept);
  results_.push_back(result);
}

std::vector<tuned_product> planner::tune(const std::function<void()>& passes) {
  std::lock_guard one_at_a_time(tuning_mutex_);
  const auto set_tuning = [&](bool tuning) {
    std::lock_guard lock(mutex_);
    tuning_ = tuning;
    timed_.clear();
    if (tuning) results_.clear();  // of a call that threw
    plans_.clear();                // those of a range follow what was found for it
  };
  set_tuning(true);
  try {
    passes();
  } catch (...) {
    set_tuning(false);
    throw;
  }
  set_tuning(false);
  std::lock_guard lock(mutex_);
  file_.save();
  return std::exchange(results_, {});
}

tuning_state planner::state() {
  std::lock_guard lock(mutex_);
  return {file_.path(), file_.problem()};
}

planner& plans_of(int device) {
  static std::mutex mutex;
  static auto* all = new std::map<int, std::unique_ptr<planner>>;  // models may outlive main()
  std::lock_guard lock(mutex);
  std::unique_ptr<planner>& p = (*all)[device];
  if (!p) p = std::make_unique<planner>(device);
  return *p;
}

}  // namespace ft::cuda
