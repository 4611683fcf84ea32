// Arrays that a pass reads on the device: as many as there are in one copy, since each copy has a cost of its own. They
// lie in memory of their own, on the two sides of a border, so that where a side's arrays lie depends on its own sizes
// alone: what was recorded of one side stays good when the other changes.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <type_traits>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"
#include "ops/exec.h"

namespace ft::runtime {

class staged_upload {
 public:
  explicit staged_upload(memory& from) : from_(&from) {}

  // Between begin() and place(): all arrays before the border, then next_side(), then all behind it. `on_device`
  // becomes a tensor of this dtype and shape, which hold as many bytes as the values, or null where there are none; it
  // must live until place(). The values are read here. A steady pass allocates nothing.
  void begin() {
    fields_.clear();
    staged_.clear();
    before_ = 0;
  }
  template <class Values>
  void add(tensor& on_device, dtype type, std::initializer_list<int64_t> dims, const Values& values) {
    const std::span view(values);
    static_assert(std::is_trivially_copyable_v<typename decltype(view)::element_type>);
    on_device = tensor(nullptr, type, dims);
    FT_CHECK(bytes_of(type, on_device.size()) == view.size_bytes());
    if (!view.empty()) std::memcpy(add_field(on_device, view.size_bytes()), view.data(), view.size_bytes());
  }
  // The same of so many integers, which the caller fills in at once.
  int32_t* add(tensor& on_device, int64_t count) {
    on_device = tensor(nullptr, dtype::i32, {count});
    return static_cast<int32_t*>(add_field(on_device, bytes_of(dtype::i32, count)));
  }
  void next_side() { before_ = staged_.size(); }

  // Makes room on the device and tells the tensors where they are. Growing moves everything: version() changes.
  void place() {
    const size_t behind = staged_.size() - before_;
    if (before_ > border_ || border_ + behind > memory_.bytes()) {
      const size_t room = std::max(memory_.bytes() - border_, behind), border = std::max(border_, rounded(before_));
      memory_ = buffer(*from_, border + rounded(room));
      border_ = border;  // all as it was where there is no memory
      ++version_;
    }
    char* first = memory_.as<char>() + (border_ - before_);
    for (const field& f : fields_) f.on_device->data = first + f.at;
  }
  uint64_t version() const { return version_; }

  // Queues the copy.
  void upload(exec& ex) const {
    if (!staged_.empty()) ex.upload(memory_.as<char>() + (border_ - before_), staged_.data(), staged_.size());
  }

 private:
  static constexpr size_t alignment = 64;
  static size_t rounded(size_t bytes) { return std::bit_ceil(std::max<size_t>(bytes, 4096)); }

  void* add_field(tensor& on_device, size_t bytes) {
    const size_t at = staged_.size();
    fields_.push_back({&on_device, at});
    staged_.resize((at + bytes + alignment - 1) / alignment * alignment);
    return staged_.data() + at;
  }

  struct field {
    tensor* on_device;
    size_t at;
  };
  memory* from_;
  std::vector<field> fields_;
  std::vector<std::byte> staged_;
  size_t before_ = 0;  // of the staged bytes, those that lie before the border
  buffer memory_;
  size_t border_ = 0;
  uint64_t version_ = 0;
};

}  // namespace ft::runtime
