// Activations of a step: a stack of bytes that every layer takes from and gives back to.
//
// The first steps find out how much is needed; once a step of the largest size has run, reset() has gathered the
// pieces into one and no step allocates again.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "core/memory.h"
#include "core/tensor.h"

namespace ft {

class arena {
 public:
  explicit arena(memory& from) : from_(&from) {}

  // Contents undefined; aligned to 64 bytes; valid until the enclosing scope ends or reset().
  void* allocate(size_t bytes) {
    bytes = (bytes + 63) & ~size_t{63};
    while (current_ < blocks_.size() && used_ + bytes > blocks_[current_].bytes()) {
      before_ += used_;
      ++current_;
      used_ = 0;
    }
    if (current_ == blocks_.size()) {
      blocks_.emplace_back(*from_, std::max(bytes, before_));
      ++version_;
    }
    void* data = blocks_[current_].as<char>() + used_;
    used_ += bytes;
    peak_ = std::max(peak_, before_ + used_);
    return data;
  }

  tensor make(dtype type, std::initializer_list<int64_t> dims) {
    tensor t(nullptr, type, dims);
    t.data = allocate(bytes_of(type, t.size()));
    return t;
  }

  template <class T>
  T* make(int64_t count) {
    return static_cast<T*>(allocate(sizeof(T) * static_cast<size_t>(count)));
  }

  // Gives everything back; gathers several blocks into one of the largest size seen.
  void reset() {
    if (blocks_.size() > 1) {
      ++version_;
      blocks_.clear();
      blocks_.emplace_back(*from_, peak_);
    }
    current_ = used_ = before_ = 0;
  }

  // Frees the memory itself.
  void release() {
    ++version_;
    blocks_.clear();
    current_ = used_ = before_ = peak_ = 0;
  }

  // Grows whenever the blocks change: while it stays, the same allocations after a reset() have the same addresses.
  uint64_t version() const { return version_; }

  // What is allocated while a scope lives is given back when it ends.
  class scope {
   public:
    explicit scope(arena& a) : arena_(a), current_(a.current_), used_(a.used_), before_(a.before_) {}
    ~scope() {
      arena_.current_ = current_;
      arena_.used_ = used_;
      arena_.before_ = before_;
    }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

   private:
    arena& arena_;
    size_t current_, used_, before_;
  };

 private:
  memory* from_;
  std::vector<buffer> blocks_;
  size_t current_ = 0;  // block being filled
  size_t used_ = 0;     // bytes of it in use
  size_t before_ = 0;   // bytes used in the blocks before it
  size_t peak_ = 0;
  uint64_t version_ = 0;
};

}  // namespace ft
