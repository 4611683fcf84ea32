#include "gpu/device.h"

#include <cuda_runtime_api.h>

#include <cstdio>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kv_page.h"
#include "backends/cuda/launch.h"

namespace ft::test {
namespace {

using cuda::check;

class gpu_memory final : public memory {
 public:
  void* allocate(size_t bytes) override {
    void* data = nullptr;
    check(cudaMalloc(&data, bytes), "device memory");
    count_allocation();
    return data;
  }
  void deallocate(void* data, size_t) noexcept override { cudaFree(data); }
};

class test_backend final : public backend {
 public:
  std::string name() const override { return "cuda:0"; }
  memory& device_memory() override { return memory_; }
  const op_table& ops() const override { return cuda::cuda_op_table(); }
  size_t free_memory() const override {
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "free_memory");
    return free;
  }
  void upload(void* to, const void* from, size_t bytes, void* stream) override { copy(to, from, bytes, stream); }
  void download(void* to, const void* from, size_t bytes, void* stream) override { copy(to, from, bytes, stream); }
  dtype activation_type(dtype compute) const override { return compute; }
  std::unique_ptr<packed_weight> pack(std::span<const tensor>, dtype) override {
    fail(FT_ERROR_UNSUPPORTED, "the tests' backend packs no weights");
  }
  bool can_pack_together(std::span<const tensor>) const override { return false; }
  size_t kv_page_bytes(const kv_layout& layout) const override { return cuda::kv_page_bytes(layout); }

 private:
  static void copy(void* to, const void* from, size_t bytes, void* stream) {
    const auto queue = static_cast<cudaStream_t>(stream);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, queue), "copy");
    check(cudaStreamSynchronize(queue), "copy");
  }

  gpu_memory memory_;
};

}  // namespace

backend* gpu_backend() {
  static test_backend backend;
  static const cudaError_t status = [] {
    int devices = 0;
    cudaDeviceProp properties;
    cudaError_t status = cudaGetDeviceCount(&devices);
    if (status == cudaSuccess) status = cudaGetDeviceProperties(&properties, 0);
    if (status != cudaSuccess)
      std::printf("no GPU: %s\n", cudaGetErrorString(status));
    else
      std::printf("%s, compute capability %d.%d\n", properties.name, properties.major, properties.minor);
    return status;
  }();
  return status == cudaSuccess ? &backend : nullptr;
}

exec& gpu() {
  static const cudaStream_t stream = [] {
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "stream");
    return made;
  }();
  static arena scratch(gpu_backend()->device_memory());
  static exec ex{*gpu_backend(), gpu_backend()->ops(), scratch, nullptr, stream};
  return ex;
}

}  // namespace ft::test
