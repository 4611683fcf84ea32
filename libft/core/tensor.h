// A view of a tensor in some device's memory. It owns nothing; buffers, arenas and mapped files do.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>

#include "core/dtype.h"
#include "core/status.h"

namespace ft {

struct tensor {
  static constexpr int max_rank = 4;

  void* data = nullptr;
  dtype type = dtype::f32;
  int rank = 0;
  std::array<int64_t, max_rank> shape{};
  std::array<int64_t, max_rank> stride{};  // in elements; a quantised tensor's innermost stride is 1

  tensor() = default;

  // C-contiguous.
  tensor(void* data, dtype type, std::initializer_list<int64_t> dims) : data(data), type(type) {
    FT_CHECK(dims.size() <= max_rank);
    for (int64_t d : dims) shape[rank++] = d;
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      stride[i] = step;
      step *= shape[i];
    }
  }

  explicit operator bool() const { return data != nullptr; }

  int64_t dim(int axis) const { return shape[axis < 0 ? axis + rank : axis]; }

  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }

  bool contiguous() const {
    int64_t step = 1;
    for (int i = rank - 1; i >= 0; --i) {
      if (shape[i] != 1 && stride[i] != step) return false;
      step *= shape[i];
    }
    return true;
  }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }

  // Elements [begin, end) along `axis`. Quantised tensors may be cut between blocks only.
  tensor slice(int axis, int64_t begin, int64_t end) const {
    FT_CHECK(axis < rank && 0 <= begin && begin <= end && end <= shape[axis]);
    tensor t = *this;
    t.data = static_cast<char*>(data) + bytes_of(type, begin * stride[axis]);
    t.shape[axis] = end - begin;
    return t;
  }

  // The same elements under another shape; the tensor must be contiguous.
  tensor reshape(std::initializer_list<int64_t> dims) const {
    tensor t(data, type, dims);
    FT_CHECK(contiguous() && t.size() == size());
    return t;
  }

  // Splits the last axis, [.., heads * width] into [.., heads, width]; any strides on the axes before it.
  tensor split_last(int64_t heads) const {
    FT_CHECK(rank < max_rank && shape[rank - 1] % heads == 0 && stride[rank - 1] == 1);
    tensor t = *this;
    t.shape[rank - 1] = heads;
    t.shape[rank] = shape[rank - 1] / heads;
    t.stride[rank - 1] = t.shape[rank];
    t.stride[rank] = 1;
    t.rank = rank + 1;
    return t;
  }
};

}  // namespace ft
