// The way of a weight from the mapped file to the GPU: in pieces through lanes, each with two pinned buffers in turn,
// so that a piece is gathered or expanded while the one before is copied. Threads that load layers have a lane each,
// and a checkpoint of any size takes no more host memory than these.
#pragma once

#include <cuda_runtime_api.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "core/thread_pool.h"
#include "ops/weight_format.h"

namespace ft::cuda {

class upload_lane;

class uploader {
 public:
  explicit uploader(int device);
  uploader(const uploader&) = delete;
  uploader& operator=(const uploader&) = delete;
  ~uploader();

  // `part` (host memory, of any format) to `to` (device, dense rows of a float type), expanded and converted where they
  // differ; on all threads of the pool, if one is given. The values have arrived when this returns. Thread-safe.
  void upload(const tensor& to, const stored_weight& part, thread_pool* pool);

 private:
  class lease;
  std::unique_ptr<upload_lane> take();
  void give_back(std::unique_ptr<upload_lane> lane) noexcept;
  bool may_open_another() const;

  const int device_;
  std::mutex mutex_;
  std::condition_variable came_back_;
  std::vector<std::unique_ptr<upload_lane>> idle_;
  int lanes_ = 0;  // idle ones and those in use
};

}  // namespace ft::cuda
