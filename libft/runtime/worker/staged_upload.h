// Integers that a pass reads on the device: as many arrays as there are in one copy, since each copy has a cost of its
// own.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/executor.h"

namespace ft::runtime {

class integer_upload {
 public:
  void clear() {  // allocates nothing, as upload() does where there were as many before
    fields_.clear();
    staged_.clear();
  }

  // `on_device` becomes [values.size()] i32 with upload(); the values are read here.
  void add(tensor& on_device, std::span<const int32_t> values) {
    fields_.push_back({&on_device, staged_.size(), values.size()});
    staged_.insert(staged_.end(), values.begin(), values.end());
    staged_.resize((staged_.size() + alignment - 1) / alignment * alignment);
  }

  // The tensors live in the pass's activations.
  void upload(nn::run& run) {
    const tensor all = upload_i32(run, staged_);
    for (const field& f : fields_)
      *f.on_device = all.slice(0, static_cast<int64_t>(f.begin), static_cast<int64_t>(f.begin + f.size));
  }

 private:
  static constexpr size_t alignment = 16;  // elements: 64 bytes

  struct field {
    tensor* on_device;
    size_t begin, size;
  };
  std::vector<field> fields_;
  std::vector<int32_t> staged_;
};

}  // namespace ft::runtime
