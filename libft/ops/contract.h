// The checks that every operation makes of its arguments before a backend sees them. A fault is a broken promise
// between libft's own parts: FT_ERROR_INTERNAL, naming the operation and the argument.
#pragma once

#include <initializer_list>

#include "core/tensor.h"

namespace ft::ops {

class contract {
 public:
  explicit contract(const char* op) : op_(op) {}

  void require(bool holds, const char* what) const {
    if (!holds) fail(FT_ERROR_INTERNAL, op_, ": ", what);
  }

  // The dtype of activations: float32 on the CPU, what the model computes in elsewhere.
  dtype activations(const char* argument, const tensor& t) const {
    if (t.type != dtype::f32 && t.type != dtype::f16 && t.type != dtype::bf16)
      fail(FT_ERROR_INTERNAL, op_, ": ", argument, " is ", name(t.type), ", not float32, float16 or bfloat16");
    return t.type;
  }

  // A tensor of this dtype and shape whose last axis is dense and whose other strides are any.
  void dense_rows(const char* argument, const tensor& t, dtype type, std::initializer_list<int64_t> shape) const {
    if (t.type != type) fail(FT_ERROR_INTERNAL, op_, ": ", argument, " is ", name(t.type), ", not ", name(type));
    bool same = t.rank == static_cast<int>(shape.size());
    for (int i = 0; same && i < t.rank; ++i) same = t.shape[i] == shape.begin()[i] && t.shape[i] >= 0;
    if (!same) fail(FT_ERROR_INTERNAL, op_, ": ", argument, " has shape ", text(t), ", not ", text(shape));
    if (t.size() > 0 && !t.data) fail(FT_ERROR_INTERNAL, op_, ": ", argument, " is null");
    if (t.rank > 0 && t.dim(-1) > 1 && t.stride[t.rank - 1] != 1)
      fail(FT_ERROR_INTERNAL, op_, ": the last axis of ", argument, " is not dense");
  }

  // As dense_rows, with no gaps at all.
  void packed(const char* argument, const tensor& t, dtype type, std::initializer_list<int64_t> shape) const {
    dense_rows(argument, t, type, shape);
    if (!t.contiguous()) fail(FT_ERROR_INTERNAL, op_, ": ", argument, " is not contiguous");
  }

  // The extent of an axis, for shapes that other arguments must repeat.
  int64_t dim(const char* argument, const tensor& t, int rank, int axis) const {
    if (t.rank != rank) fail(FT_ERROR_INTERNAL, op_, ": ", argument, " has rank ", t.rank, ", not ", rank);
    return t.shape[axis];
  }

 private:
  static std::string text(std::initializer_list<int64_t> shape) {
    std::string s = "[";
    for (int64_t d : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(d);
    return s + "]";
  }
  static std::string text(const tensor& t) {
    std::string s = "[";
    for (int i = 0; i < t.rank; ++i) s += (i ? ", " : "") + std::to_string(t.shape[i]);
    return s + "]";
  }

  const char* op_;
};

}  // namespace ft::ops
