#include "gpu/device.h"

#include <cstdio>

#include "backends/cuda/cuda_backend.h"

namespace ft::test {

backend* gpu_backend() {
  static backend* const first = [] {
    cuda::set_allocation_counter(count_allocation);
    const plugin& cuda = cuda::cuda_plugin();
    if (cuda.num_devices == 0) {
      std::printf("no GPU: %s\n", cuda.problem);
      return static_cast<backend*>(nullptr);
    }
    std::printf("%s, %s\n", cuda.devices[0].description, cuda.devices[0].capabilities);
    return cuda.devices[0].device;
  }();
  return first;
}

exec& gpu() {
  static const std::shared_ptr<void> stream = gpu_backend()->make_stream();
  static arena scratch(gpu_backend()->device_memory());
  static exec ex{*gpu_backend(), gpu_backend()->ops(), scratch, nullptr, stream.get()};
  return ex;
}

}  // namespace ft::test
