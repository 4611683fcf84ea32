#include "backends/cuda/kernel/launch.h"

#include <mutex>
#include <set>
#include <utility>

namespace ft::cuda {

void load_kernel(const void* kernel, const char* op) {
  static std::mutex mutex;
  static std::set<std::pair<int, const void*>> loaded;  // on which device
  int device = 0;
  check(cudaGetDevice(&device), "asking for the GPU");
  {
    const std::lock_guard lock(mutex);
    if (loaded.contains({device, kernel})) return;
  }
  cudaFuncAttributes attributes{};
  check(cudaFuncGetAttributes(&attributes, kernel), op);  // which loads it
  const std::lock_guard lock(mutex);
  loaded.insert({device, kernel});
}

}  // namespace ft::cuda
