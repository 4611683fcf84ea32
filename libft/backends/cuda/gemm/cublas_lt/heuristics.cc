#include "backends/cuda/gemm/cublas_lt/heuristics.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <map>
#include <optional>

#include "backends/cuda/gemm/cublas_lt/row_steps.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int most_candidates = 32, timed_runs = 7;
constexpr size_t most_chosen = 1024;  // a model has some ten shapes, each in a few dozen steps of rows

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

chosen_algorithm::chosen_algorithm(const cublas_lt& library, cublasLtHandle_t handle, const product_shape& s)
    : lt_(library), handle_(handle), shape_(s) {
  check_lt(lt_.desc_create(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
  const auto describe = [&](cublasLtMatmulDescAttributes_t what, const auto& value) {
    check_lt(lt_.desc_set(desc_, what, &value, sizeof value), "descriptor");
  };
  describe(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  describe(CUBLASLT_MATMUL_DESC_EPILOGUE, s.epilogue);
  describe(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, data_type(s.out_type));
  weight_ = layout(lt_, s.type, s.in_features, s.out_features, s.in_features);
  x_ = layout(lt_, s.type, s.in_features, s.rows, s.x_stride);
  addend_ = layout(lt_, s.out_type, s.out_features, s.rows, s.addend_stride);
  out_ = layout(lt_, s.out_type, s.out_features, s.rows, s.out_stride);
}

chosen_algorithm::~chosen_algorithm() {
  for (const cublasLtMatrixLayout_t made : {weight_, x_, addend_, out_})
    if (made) lt_.layout_destroy(made);
  if (desc_) lt_.desc_destroy(desc_);
}

void chosen_algorithm::use(const cublasLtMatmulAlgo_t& algorithm) {
  algorithm_ = algorithm;
  usable_ = true;
}

chosen_algorithm::layouts chosen_algorithm::layouts_for(int64_t rows) const {
  layouts made{*x_, *addend_, *out_};
  if (rows == shape_.rows) return made;
  const auto columns = static_cast<uint64_t>(rows);  // cuBLASLt's
  for (cublasLtMatrixLayoutOpaque_t* one : {&made.x, &made.addend, &made.out})
    check_lt(lt_.layout_set(one, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof columns), "layout");
  return made;
}

bool chosen_algorithm::takes(const cublasLtMatmulAlgo_t& algorithm, layouts of) const {
  cublasLtMatmulHeuristicResult_t result{};
  return lt_.algo_check(handle_, desc_, weight_, &of.x, &of.addend, &of.out, &algorithm, &result) ==
             CUBLAS_STATUS_SUCCESS &&
         result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= matmul_workspace_bytes;
}

bool chosen_algorithm::takes(const cublasLtMatmulAlgo_t& algorithm) const {
  return takes(algorithm, layouts_for(shape_.rows));
}

bool chosen_algorithm::takes_rows(int64_t rows) const {
  if (rows == shape_.rows || rows == last_rows_.load(std::memory_order_relaxed)) return true;
  if (!takes(algorithm_, layouts_for(rows))) return false;
  last_rows_.store(rows, std::memory_order_relaxed);
  return true;
}

cublasStatus_t chosen_algorithm::multiply(const product_operands& o, int64_t rows,
                                          const cublasLtMatmulAlgo_t& by) const {
  cublasLtMatmulDescOpaque_t own = *desc_;  // other threads have a bias of their own
  if (o.bias) check_lt(lt_.desc_set(&own, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &o.bias, sizeof o.bias), "descriptor");
  layouts of = layouts_for(rows);
  const float one = 1;
  return lt_.matmul(handle_, &own, &one, o.weight, weight_, o.x, &of.x, &o.beta, o.addend, &of.addend, o.out, &of.out,
                    &by, o.workspace, matmul_workspace_bytes, o.stream);
}

std::vector<cublasLtMatmulAlgo_t> chosen_algorithm::candidates(int most) const {
  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(lt_.preference_create(&preference), "preference");
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t what, const auto& value) {
    check_lt(lt_.preference_set(preference, what, &value, sizeof value), "preference");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, matmul_workspace_bytes);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, shape_.x_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, shape_.addend_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, shape_.out_alignment);
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(most));
  int count = 0;
  const cublasStatus_t status =
      lt_.heuristic(handle_, desc_, weight_, x_, addend_, out_, preference, most, found.data(), &count);
  lt_.preference_destroy(preference);
  std::vector<cublasLtMatmulAlgo_t> algos;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i)
    if (found[static_cast<size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
      algos.push_back(found[static_cast<size_t>(i)].algo);
  return algos;
}

heuristics::heuristics(int device) : lt_(open_cublas_lt()), chosen_(most_chosen), file_(made_for(device, lt_)) {
  check_lt(lt_.create(&handle_), "handle");
}

// A kept algorithm was tuned for another shape of its range, which it may not take.
heuristics::shared_algorithm heuristics::choose(const product_shape& shape) {
  auto made = std::make_shared<chosen_algorithm>(lt_, handle_, shape);
  std::optional<algorithm> kept;
  {
    const std::lock_guard lock(mutex_);
    if (const algorithm* found = file_.find(shape.range())) kept = *found;
  }
  if (kept) {
    cublasLtMatmulAlgo_t algo;
    std::memcpy(&algo, kept->data(), sizeof algo);
    if (made->takes(algo)) made->use(algo);
  }
  if (made->usable()) return made;
  const auto found = made->candidates(1);
  if (!found.empty()) made->use(found.front());
  return made;
}

// Where two threads choose for one shape at a time, the later one's choice stays.
heuristics::shared_algorithm heuristics::find_or_choose(const product_shape& shape) {
  {
    const std::lock_guard lock(mutex_);
    if (const shared_algorithm* found = chosen_.find(shape)) return *found;
  }
  shared_algorithm made = choose(shape);
  const std::lock_guard lock(mutex_);
  chosen_.put(shape, made);
  return made;
}

bool heuristics::is_to_be_timed(const product_shape& shape) {
  const std::lock_guard lock(mutex_);
  return tuning_ && timed_.insert(shape.range()).second;
}

std::shared_ptr<const chosen_algorithm> heuristics::find(const product_shape& shape, const product_operands& operands) {
  product_shape of_step = shape;
  of_step.rows = rows_of_step(shape.rows);
  shared_algorithm found = find_or_choose(of_step);
  if (found->usable() && !found->takes_rows(shape.rows)) found = find_or_choose(shape);
  if (!found->usable() || is_recorded(operands.stream) || !is_to_be_timed(shape)) return found;
  found = choose_by_time(shape, operands);
  const std::lock_guard lock(mutex_);
  chosen_.put(of_step, found);
  return found;
}

// The weights are read from memory, as in a pass: what the cache held of them is overwritten before each run.
heuristics::shared_algorithm heuristics::choose_by_time(const product_shape& shape, product_operands operands) {
  const measuring_memory flushed(2 * static_cast<size_t>(device_attribute(cudaDevAttrL2CacheSize)));
  const measuring_memory out(bytes_of(shape.out_type, shape.rows * shape.out_stride));
  operands.out = out.data();
  if (operands.beta == 0) operands.addend = out.data();
  stopwatch watch;
  shared_algorithm made = choose(shape);
  tuned_product result{shape.range(), 0, std::numeric_limits<double>::infinity()};
  for (const cublasLtMatmulAlgo_t& algo : made->candidates(most_candidates)) {
    double best = std::numeric_limits<double>::infinity();
    for (int run = 0; run <= timed_runs; ++run) {
      check(cudaMemsetAsync(flushed.data(), run, flushed.bytes(), operands.stream), "tuning");
      cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
      const double us = watch.time(operands.stream, [&] { status = made->multiply(operands, shape.rows, algo); });
      if (status != CUBLAS_STATUS_SUCCESS) break;
      if (run > 0) best = std::min(best, us);  // the first loads the kernel
    }
    if (result.before_us == 0) result.before_us = best;
    if (best >= result.after_us) continue;
    result.after_us = best;
    made->use(algo);
  }
  algorithm kept;
  std::memcpy(kept.data(), &made->algorithm(), kept.size());
  const std::lock_guard lock(mutex_);
  file_.put(shape.range(), kept);
  results_.push_back(result);
  return made;
}

std::vector<tuned_product> heuristics::tune(const std::function<void()>& passes) {
  std::lock_guard one_at_a_time(tuning_mutex_);
  const auto set_tuning = [&](bool tuning) {
    std::lock_guard lock(mutex_);
    tuning_ = tuning;
    timed_.clear();
    if (tuning) results_.clear();  // of a call that threw
    chosen_.clear();               // those of a range follow what was found for it
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

tuning_state heuristics::state() {
  std::lock_guard lock(mutex_);
  return {file_.path(), file_.problem()};
}

heuristics& heuristics_of(int device) {
  static std::mutex mutex;
  static auto* all = new std::map<int, std::unique_ptr<heuristics>>;  // models may outlive main()
  std::lock_guard lock(mutex);
  std::unique_ptr<heuristics>& h = (*all)[device];
  if (!h) h = std::make_unique<heuristics>(device);
  return *h;
}

}  // namespace ft::cuda
