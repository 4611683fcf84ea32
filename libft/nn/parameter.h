// A small weight in the device's memory as it is: a norm's scale, a bias, a table of positions.
#pragma once

#include "core/memory.h"
#include "core/tensor.h"

namespace ft::nn {

struct parameter {
  buffer memory;
  tensor view;  // of `memory`; null when the model has no such weight

  explicit operator bool() const { return view.data != nullptr; }
  const float* values() const { return view.as<const float>(); }
};

}  // namespace ft::nn
