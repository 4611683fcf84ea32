// Writes any checkpoint that libft opens as one of its own folders (io/formats/manifest.h), split for the ranks that
// will read it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "arch/family.h"

namespace ft::arch {

struct convert_options {
  // "float32", "bfloat16" or "float16" for every weight; empty: each as the source has it, GGUF's blocks bit for bit.
  std::string dtype;
  int tensor_parallel = 1;
  int pipeline_parallel = 1;
  bool overwrite = false;  // a folder of libft's at the destination
  struct text_file {
    std::string_view name, contents;
  };
  std::vector<text_file> files;  // to be written beside the weights, before those of the source of the same name
  progress on_progress;
};

// Streams one tensor after another; the destination appears when all of it is on the disk. Throws ft::error:
// FT_ERROR_INVALID_ARGUMENT when the weights cannot be split so, or the destination exists.
void convert(const std::string& source, const std::string& destination, const convert_options& options);

}  // namespace ft::arch
