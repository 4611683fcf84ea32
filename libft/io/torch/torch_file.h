// Files of torch.save (torch 1.6 and newer): a zip archive (io/torch/zip.h) of
//
//   <name>/data.pkl      the saved object as a pickle (io/torch/pickle.h), in which a tensor is a call of
//                        torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)
//   <name>/data/<key>    the storages: raw elements, aligned to 64 bytes
//   <name>/byteorder     "little"; absent in old files
//
// Tensors are views of the mapped storages. Nothing is executed, whatever the file says.
#pragma once

#include <memory>
#include <vector>

#include "io/stored_tensor.h"
#include "io/text/json.h"

namespace ft::io {

struct torch_contents {
  // Found by walking the dictionaries from the root, named by their keys joined by dots. Strides are as they were
  // saved, so a tensor may be transposed, or share its storage with others.
  tensor_file found;
  // Numbers, booleans and strings under text keys of the root, and those in its dictionaries and plain objects
  // (argparse.Namespace), one level deep.
  json_ptr scalars;
};

// Throws ft::error naming file, tensor and fault: FT_ERROR_CHECKPOINT, or FT_ERROR_UNSUPPORTED for the format of torch
// before 1.6.
torch_contents read_torch_file(const std::shared_ptr<const mapped_file>& file);

}  // namespace ft::io
