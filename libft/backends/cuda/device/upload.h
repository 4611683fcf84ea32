// The way of a weight from the mapped file to the GPU: through two pinned buffers in turn, so that a piece is gathered
// while the one before is copied, and a checkpoint of any size takes no more host memory than these.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <mutex>

#include "core/tensor.h"

namespace ft::cuda {

class uploader {
 public:
  uploader() = default;
  uploader(const uploader&) = delete;
  uploader& operator=(const uploader&) = delete;
  ~uploader();

  // `part` (host memory, [rows, columns], any strides for plain types) to `to` (device, dense rows of a float type),
  // converted where the dtypes differ. The values have arrived when this returns. Thread-safe.
  void upload(const tensor& to, const tensor& part);

 private:
  struct stage {
    void* host = nullptr;    // pinned
    void* device = nullptr;  // where a piece waits to be converted
    cudaEvent_t free = nullptr;
  };

  void open();

  std::mutex mutex_;
  cudaStream_t stream_ = nullptr;
  stage stages_[2];
};

}  // namespace ft::cuda
