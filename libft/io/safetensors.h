// safetensors files (https://huggingface.co/docs/safetensors): an 8-byte header length, JSON, then the data.
#pragma once

#include <memory>
#include <vector>

#include "io/stored_tensor.h"

namespace ft::io {

// Parses the header and checks that each tensor's shape, dtype and offsets agree, lie in the file and do not
// overlap. Throws ft::error (FT_ERROR_CHECKPOINT) naming file, tensor and fault.
std::vector<stored_tensor> parse_safetensors(const std::shared_ptr<const mapped_file>& file);

}  // namespace ft::io
