// A tensor as a file holds it.
#pragma once

#include <memory>
#include <string>

#include "core/tensor.h"
#include "io/mapped_file.h"

namespace ft::io {

struct stored_tensor {
  std::string name;
  tensor data;  // read-only host memory in the mapped file, C-contiguous, outermost axis first; may be unaligned
  std::shared_ptr<const mapped_file> file;
};

}  // namespace ft::io
