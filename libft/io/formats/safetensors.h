// safetensors files (https://huggingface.co/docs/safetensors):
//
//   u64 little-endian   n, the header's length, at most 100,000,000
//   n bytes             a JSON object: name -> {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin,
//   end]},
//                       and "__metadata__" -> an object of strings; may be padded with spaces
//   the rest            the data; offsets count from here, and the tensors cover it without gap or overlap
#pragma once

#include <memory>
#include <vector>

#include "io/stored_tensor.h"

namespace ft::io {

// Parses the header and checks that each tensor's shape, dtype and offsets agree, lie in the file and do not
// overlap. Both lists are in the order of the data. Throws ft::error (FT_ERROR_CHECKPOINT) naming file, tensor and
// fault.
tensor_file parse_safetensors(const std::shared_ptr<const mapped_file>& file);

}  // namespace ft::io
