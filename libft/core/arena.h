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

  // Contents undefined; valid until the enclosing scope ends or reset(). Aligned to 64 bytes, and to `alignment` where
  // the memory's own pieces are.
  void* allocate(size_t bytes) {
    bytes = (bytes + alignment - 1) / alignment * alignment;
    while (at_.block < blocks_.size() && at_.used + bytes > blocks_[at_.block].bytes())
      at_ = {at_.block + 1, 0, at_.before + at_.used};
    if (at_.block == blocks_.size()) {
      blocks_.emplace_back(*from_, std::max(bytes, at_.before));
      ++version_;
    }
    void* data = blocks_[at_.block].as<char>() + at_.used;
    at_.used += bytes;
    peak_ = std::max(peak_, at_.before + at_.used);
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
    at_ = {};
  }

  // Frees the memory itself.
  void release() {
    ++version_;
    blocks_.clear();
    at_ = {};
    peak_ = 0;
  }

  // Grows whenever the blocks change: while it stays, the same allocations after a reset() have the same addresses.
  uint64_t version() const { return version_; }

  // How far the memory is taken. Going back to a place gives back what was allocated since; going on to one, where the
  // version has not changed, takes again what had been taken there.
  struct position {
    size_t block = 0;   // being filled
    size_t used = 0;    // bytes of it
    size_t before = 0;  // bytes used in the blocks before it
  };
  position where() const { return at_; }
  void go_to(const position& p) { at_ = p; }

  // What is allocated while a scope lives is given back when it ends.
  class scope {
   public:
    explicit scope(arena& a) : arena_(a), begin_(a.where()) {}
    ~scope() { arena_.go_to(begin_); }
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;

   private:
    arena& arena_;
    const position begin_;
  };

 private:
  // Two lines of a GPU's cache: rows that begin in the midst of one take a twentieth longer to multiply.
  static constexpr size_t alignment = 256;

  memory* from_;
  std::vector<buffer> blocks_;
  position at_;
  size_t peak_ = 0;
  uint64_t version_ = 0;
};

}  // namespace ft
