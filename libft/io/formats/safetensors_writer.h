// Writes a safetensors file (io/formats/safetensors.h): the header from what is promised, then the tensors' bytes one
// after another, so that no more than a piece of one is held in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "io/files/output_file.h"

namespace ft::io {

class safetensors_writer {
 public:
  // A quantised tensor [rows, columns] is promised by its blocks and written as bytes [rows, bytes of a row].
  struct entry {
    std::string name;
    dtype type = dtype::f32;
    std::vector<int64_t> shape;
  };

  // Creates the file, which must not exist, and writes its header.
  safetensors_writer(std::string path, const std::vector<entry>& entries);

  void write(const void* data, uint64_t bytes) { file_.write(data, bytes); }  // the next of the data
  void close();  // all that was promised must have been written

 private:
  output_file file_;
  uint64_t end_ = 0;
};

}  // namespace ft::io
