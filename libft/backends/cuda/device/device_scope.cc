#include "backends/cuda/device/device_scope.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

// Whether the process computes on a GPU already. Only the driver can tell; the runtime has loaded it.
bool in_use(int device) noexcept {
  using get_state = int(int device, unsigned* flags, int* active);
  static const auto ask = [] {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    return driver ? reinterpret_cast<get_state*>(dlsym(driver, "cuDevicePrimaryCtxGetState")) : nullptr;
  }();
  unsigned flags = 0;
  int active = 0;
  return ask && ask(device, &flags, &active) == 0 && active;
}

}  // namespace

int enter_device(int index) {
  int before = 0;
  check(cudaGetDevice(&before), "asking for the GPU");
  // Set even where it is the same: a new thread has device 0 without having taken hold of it.
  check(cudaSetDevice(index), "choosing the GPU");
  return before;
}

void leave_device(int before) noexcept {
  int now = before;
  if (cudaGetDevice(&now) == cudaSuccess && now != before && in_use(before)) cudaSetDevice(before);
}

}  // namespace ft::cuda
