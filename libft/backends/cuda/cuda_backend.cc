#include "backends/cuda/cuda_backend.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "backends/cuda/attention/kv_page.h"
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/device/device_scope.h"
#include "backends/cuda/device/upload.h"
#include "backends/cuda/device/weight.h"
#include "backends/cuda/gemm/cublas_lt/heuristics.h"
#include "backends/cuda/kernel/launch.h"
#include "ops/gguf_blocks.h"

namespace ft::cuda {
namespace {

std::atomic<void (*)()> allocation_counter{nullptr};

// What gives something back may run while the process ends and the driver is gone: then there is nothing to give back.
template <class F>
void free_on_device(int index, F&& f) noexcept {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(index) != cudaSuccess) return;
  f();
  leave_device(before);
}

class device_memory_pool final : public memory {
 public:
  explicit device_memory_pool(int index) : index_(index) {}

  void* allocate(size_t bytes) override {
    if (const auto count = allocation_counter.load(std::memory_order_relaxed)) count();
    const device_scope scope(index_);
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      size_t free = 0, total = 0;
      cudaMemGetInfo(&free, &total);
      fail(FT_ERROR_OUT_OF_MEMORY, "cuda:", index_, " has ", free >> 20, " MiB free of ", total >> 20, "; ",
           (bytes >> 20) + 1, " MiB more are needed");
    }
    check(status, "cudaMalloc");
    return data;
  }

  void deallocate(void* data, size_t) noexcept override {
    free_on_device(index_, [&] { cudaFree(data); });
  }

 private:
  int index_;
};

// Host memory that the GPU reads and writes by itself.
class pinned_memory final : public memory {
 public:
  explicit pinned_memory(int index) : index_(index) {}

  void* allocate(size_t bytes) override {
    if (const auto count = allocation_counter.load(std::memory_order_relaxed)) count();
    const device_scope scope(index_);
    void* data = nullptr;
    check(cudaMallocHost(&data, bytes), "taking pinned memory");
    return data;
  }
  void deallocate(void* data, size_t) noexcept override {
    free_on_device(index_, [&] { cudaFreeHost(data); });
  }

 private:
  int index_;
};

class event_point final : public stream_point {
 public:
  event_point(int index, void* stream) : index_(index) {
    const device_scope scope(index);
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "making an event");
    try {
      event_point::move(stream);
    } catch (...) {
      cudaEventDestroy(event_);
      throw;
    }
  }
  ~event_point() override {
    free_on_device(index_, [&] { cudaEventDestroy(event_); });
  }

  void hold(void* stream) override {
    const device_scope scope(index_);  // the default streams are the current device's
    check(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), event_, 0), "making a stream wait");
  }
  void wait() override { check(cudaEventSynchronize(event_), "waiting for the GPU"); }
  void move(void* stream) override {
    check(cudaEventRecord(event_, static_cast<cudaStream_t>(stream)), "marking a stream");
  }

 private:
  int index_;
  cudaEvent_t event_ = nullptr;
};

class cuda_graph final : public recorded_work {
 public:
  // What starting it needs on the device is there when this returns.
  cuda_graph(cudaGraph_t graph, cudaStream_t stream) {
    const cudaError_t status = cudaGraphInstantiate(&ready_, graph, 0);
    cudaGraphDestroy(graph);
    check(status, "instantiating a graph");
    if (const cudaError_t uploaded = cudaGraphUpload(ready_, stream); uploaded != cudaSuccess) {
      cudaGraphExecDestroy(ready_);
      check(uploaded, "uploading a graph");
    }
  }
  cuda_graph(const cuda_graph&) = delete;
  cuda_graph& operator=(const cuda_graph&) = delete;
  ~cuda_graph() override { cudaGraphExecDestroy(ready_); }

  void replay(void* stream) override {
    check(cudaGraphLaunch(ready_, static_cast<cudaStream_t>(stream)), "starting a graph");
  }

 private:
  cudaGraphExec_t ready_ = nullptr;
};

class cuda_device final : public backend {
 public:
  explicit cuda_device(int index) : index_(index), memory_(index), pinned_(index), uploader_(index) {}

  std::string name() const override { return cat("cuda:", index_); }
  memory& device_memory() override { return memory_; }
  memory& transfer_memory() override { return pinned_; }
  const op_table& ops() const override { return cuda_op_table(); }

  size_t free_memory() const override {
    const device_scope scope(index_);
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "asking for the free memory");
    return free;
  }

  std::shared_ptr<void> make_stream() override {
    const device_scope scope(index_);
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
    return {stream, [index = index_](void* s) {
              free_on_device(index, [&] { cudaStreamDestroy(static_cast<cudaStream_t>(s)); });
            }};
  }

  std::shared_ptr<stream_point> mark(void* stream) override { return std::make_shared<event_point>(index_, stream); }

  void synchronize() override {
    const std::lock_guard none_recorded(recording_);
    const device_scope scope(index_);
    check(cudaDeviceSynchronize(), "waiting for the GPU");
  }

  int enter_thread() override { return enter_device(index_); }
  void leave_thread(int before) noexcept override { leave_device(before); }

  bool rehearses() const override { return true; }

  // From streams that the default stream of old does not wait for. That one cannot be recorded; while another that it
  // waits for is, nobody in the process may use it.
  bool records(void* stream) const override {
    unsigned flags = 0;
    return stream && stream != cudaStreamLegacy &&
           cudaStreamGetFlags(static_cast<cudaStream_t>(stream), &flags) == cudaSuccess &&
           (flags & cudaStreamNonBlocking);
  }

  std::unique_ptr<recorded_work> record(void* stream, const std::function<void()>& work) override {
    const auto s = static_cast<cudaStream_t>(stream);
    cudaGraph_t graph = nullptr;
    const std::shared_lock recording(recording_);
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed), "recording a graph");
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(s, &graph);
      if (graph) cudaGraphDestroy(graph);
      (void)cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(s, &graph), "recording a graph");
    return std::make_unique<cuda_graph>(graph, s);
  }

  void upload(void* to, const void* from_host, size_t bytes, void* stream) override {
    transfer(to, from_host, bytes, cudaMemcpyHostToDevice, stream);
  }

  void download(void* to_host, const void* from, size_t bytes, void* stream) override {
    download_later(to_host, from, bytes, stream);
    if (stream) check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for the GPU");
  }

  void download_later(void* to_host, const void* from, size_t bytes, void* stream) override {
    transfer(to_host, from, bytes, cudaMemcpyDeviceToHost, stream);
  }

  void copy(void* to, const void* from, size_t bytes, void* stream) override {
    transfer(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
  }

  void clear(void* to, size_t bytes, void* stream) override {
    const device_scope scope(index_);
    check(cudaMemsetAsync(to, 0, bytes, static_cast<cudaStream_t>(stream)), "clearing memory");
  }

  // Enough to fill the matrix units many times over, and that what the host does between two passes counts little; more
  // would only take memory.
  int64_t tokens_per_pass() const override { return 16384; }

  dtype activation_type(dtype compute) const override {
    if (compute == dtype::i8)
      fail(FT_ERROR_UNSUPPORTED, "dtype 'int8' computes on the CPU; a GPU takes float32, float16 or bfloat16");
    return compute;
  }

  // There are no kernels yet that read packed integers: other formats are expanded.
  bool computes_on(const weight_format& format) const override { return format.kind == weight_kind::dense; }

  std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from,
                                      thread_pool* pool) override {
    const device_scope scope(index_);
    FT_CHECK(!parts.empty() && computes_on(made));
    int64_t rows = 0;
    for (const stored_weight& part : parts) {
      FT_CHECK(part.columns() == parts.front().columns());
      rows += part.rows();
    }
    auto weight = std::make_unique<cuda_weight>(from, made, rows, parts.front().columns());
    int64_t begin = 0;
    for (const stored_weight& part : parts) {
      uploader_.upload(weight->values.slice(0, begin, begin + part.rows()), part, pool);
      begin += part.rows();
    }
    return weight;
  }

  std::unique_ptr<packed_bias> pack_bias(std::span<const float> values, dtype compute, memory& from) override {
    const auto size = static_cast<int64_t>(values.size());
    auto bias = std::make_unique<cuda_bias>(from, compute, size);
    transfer(bias->values(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice, nullptr);
    if (!bias->rounded()) return bias;
    std::vector<uint16_t> halves(values.size());
    std::transform(values.begin(), values.end(), halves.begin(), compute == dtype::f16 ? f32_to_f16 : f32_to_bf16);
    transfer(bias->rounded(), halves.data(), halves.size() * sizeof(uint16_t), cudaMemcpyHostToDevice, nullptr);
    return bias;
  }
  size_t bias_bytes(int64_t size, dtype compute) const override {
    return bytes_of(dtype::f32, size) + (compute == dtype::f32 ? 0 : bytes_of(compute, size));
  }

  std::vector<tuned_product> tune(const std::function<void()>& passes) override {
    return heuristics_of(index_).tune(passes);
  }
  tuning_state tuning() override { return heuristics_of(index_).state(); }

  size_t kv_page_bytes(const kv_layout& layout) const override { return cuda::kv_page_bytes(layout); }

 private:
  // Outside of a pass there is no stream, and the copy is done when the call returns.
  void transfer(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, void* stream) {
    if (bytes == 0) return;
    const device_scope scope(index_);
    check(stream ? cudaMemcpyAsync(to, from, bytes, kind, static_cast<cudaStream_t>(stream))
                 : cudaMemcpy(to, from, bytes, kind),
          "copying to or from the GPU");
  }

  int index_;
  device_memory_pool memory_;
  pinned_memory pinned_;
  uploader uploader_;
  std::shared_mutex recording_;  // waiting for the whole device would spoil what a stream of it records
};

// Everything lives as long as the process: models may outlive main(), and the driver is torn down before statics are.
struct found_devices {
  std::deque<std::string> texts;
  std::vector<plugin_device> devices;
  plugin offered;

  found_devices() {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) {
      (void)cudaGetLastError();
      count = 0;
      offered.problem = text(cat("CUDA finds no usable GPU: ", cudaGetErrorString(status)));
    } else if (count == 0) {
      offered.problem = "CUDA finds no GPU";
    }
    for (int i = 0; i < count; ++i) {
      cudaDeviceProp properties{};
      check(cudaGetDeviceProperties(&properties, i), "asking for the GPU's properties");
      devices.push_back({text(properties.name), text(cat("sm_", properties.major, properties.minor)),
                         properties.totalGlobalMem, new cuda_device(i)});
    }
    offered.num_devices = count;
    offered.devices = devices.data();
  }

  const char* text(std::string t) { return texts.emplace_back(std::move(t)).c_str(); }
};

}  // namespace

const plugin& cuda_plugin() {
  static const auto* found = new found_devices;
  return found->offered;
}

void set_allocation_counter(void (*count)()) { allocation_counter.store(count); }

}  // namespace ft::cuda

// The plug-in's symbols (backends/plugin.h).
extern "C" __attribute__((visibility("default"))) const char* ft_plugin_build_id() { return ft::build_id(); }

extern "C" __attribute__((visibility("default"))) const ft::plugin* ft_plugin_open(const ft::plugin_host& host) {
  ft::cuda::set_allocation_counter(host.count_allocation);
  try {
    return &ft::cuda::cuda_plugin();
  } catch (const std::exception& e) {
    static const std::string problem = e.what();
    static const ft::plugin none{.problem = problem.c_str()};
    return &none;
  }
}
