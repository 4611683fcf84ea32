// What the opaque handles hold.
#pragma once

#include <ft/ft.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "core/tensor.h"
#include "runtime/forward/forward.h"
#include "runtime/session.h"

namespace ft::api {

// Remembers the process that made a handle: in a child after fork() the library's threads do not exist, and locks may
// be held for ever by threads that are not there.
class process_bound {
 public:
  bool forked() const { return getpid() != pid_; }
  void require_own_process() const {
    if (forked())
      fail(FT_ERROR_FORKED, "this handle was made before fork(); open the model again in the child process");
  }

 private:
  pid_t pid_ = getpid();
};

// A checked view for the runtime; throws for dtypes that no call takes. Of a tensor in host memory, or, by the second,
// of one in the memory of `device`, which the view does not tell apart.
tensor to_tensor(const ft_tensor* t, const char* name);
tensor to_tensor(const ft_tensor* t, const char* name, const ft_device& device);
bool on_host(const ft_tensor& t);
// A new handle that owns what `t` does, on `device`; `ready` as ft_tensor has it.
ft_tensor* make_tensor(runtime::owned_tensor t, const ft_device& device, std::shared_ptr<stream_point> ready);
struct release_tensor {
  void operator()(ft_tensor* t) const { ft_tensor_release(t); }
};
using tensor_handle = std::unique_ptr<ft_tensor, release_tensor>;

// As ft_tensor_create and ft_tensor_to_host have it.
tensor_handle create_tensor(const ft_dtype& type, int32_t ndim, const int64_t* shape);
tensor_handle copy_to_host(const ft_tensor& t);

}  // namespace ft::api

struct ft_tensor {
  std::atomic<int64_t> references{1};
  ft_dl_tensor view{};
  std::vector<int64_t> shape, strides;
  std::shared_ptr<ft::memory> from;       // when the library owns the memory: what it came from,
  ft::buffer storage;                     // and the memory
  ft_release_callback release = nullptr;  // when the caller does
  void* user_data = nullptr;
  ft_dl_managed_tensor* managed = nullptr;  // when a DLPack producer does
  std::shared_ptr<ft::stream_point> ready;  // when the elements are there; null: they are
};

struct ft_checkpoint {
  std::shared_ptr<const ft::io::checkpoint> impl;
  std::string config;
  struct listed {
    std::string name, dtype, file;
    std::vector<int64_t> shape;
    ft_tensor_usage usage = FT_TENSOR_USED;
    uint64_t size_bytes = 0;
    std::string weights;
  };
  std::vector<listed> tensors;

  explicit ft_checkpoint(std::shared_ptr<const ft::io::checkpoint> source);
};

struct ft_model : ft::api::process_bound {
  std::shared_ptr<ft::runtime::model> impl;
  std::unique_ptr<ft_checkpoint> checkpoint;
  ft::io::json_ptr config;
  std::string config_text;
  std::string device, dtype;
  std::vector<ft::runtime::rank_info> ranks;
};

struct ft_session : ft::api::process_bound {
  std::shared_ptr<ft::runtime::session> impl;
};

// Shared by the caller's handle and, until the request has finished, by its callbacks.
struct ft_request : ft::api::process_bound {
  std::shared_ptr<ft::runtime::session> session;
  std::shared_ptr<ft::runtime::request> impl;
  std::shared_ptr<ft_request> self;  // the caller's share; dropped by ft_request_release
  ft_token_callback on_token = nullptr;
  ft_logits_callback constrain_logits = nullptr;
  ft_logits_callback on_logits = nullptr;
  ft_stop_callback should_stop = nullptr;
  void* user_data = nullptr;
};
