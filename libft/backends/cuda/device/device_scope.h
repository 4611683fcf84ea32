// The GPU that a thread computes on is the program's to choose (cudaSetDevice, torch.cuda.device): we change it for as
// long as we compute, and no longer.
#pragma once

namespace ft::cuda {

// Makes `index` the calling thread's GPU; returns the one that was.
int enter_device(int index);

// Makes `before` the thread's GPU again, unless nobody has used that one yet: choosing it would take hold of it, with
// hundreds of MiB of its memory.
void leave_device(int before) noexcept;

class device_scope {
 public:
  explicit device_scope(int index) : before_(enter_device(index)) {}
  ~device_scope() { leave_device(before_); }
  device_scope(const device_scope&) = delete;
  device_scope& operator=(const device_scope&) = delete;

 private:
  int before_;
};

}  // namespace ft::cuda
