// A tensor as a file holds it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "io/files/mapped_file.h"

namespace ft::io {

struct stored_tensor {
  std::string name;
  // Read-only host memory in the mapped file, outermost axis first; may be unaligned. C-contiguous, but in files of
  // torch.save, which keep a tensor's strides.
  tensor data;
  std::shared_ptr<const mapped_file> file;
};

// A tensor that libft has no type for, or too many axes. Files may hold such: only a model that needs one is refused.
struct foreign_tensor {
  std::string name;
  std::string dtype;  // as libft calls it or, where it has no name for it, as the file does: "F8_E4M3"
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
  std::string fault;  // why it cannot be used: "its dtype F8_E4M3 is not supported"
  std::shared_ptr<const mapped_file> file;
};

// What a file of tensors holds.
struct tensor_file {
  std::vector<stored_tensor> tensors;
  std::vector<foreign_tensor> foreign;
};

// Bytes of a tensor of this shape (outermost first; at most tensor::max_rank axes). Nothing when the elements, the
// bytes or a stride are beyond 63 bits, or the innermost axis is no whole number of blocks.
std::optional<uint64_t> stored_bytes(dtype type, std::span<const uint64_t> shape);

// The tensor at `offset` of the file. The shape has passed stored_bytes() and its bytes lie in the file.
stored_tensor view_stored(std::string name, dtype type, std::span<const uint64_t> shape,
                          const std::shared_ptr<const mapped_file>& file, uint64_t offset);

}  // namespace ft::io
