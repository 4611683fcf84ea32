// GGUF files, versions 2 and 3, little-endian (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md):
//
//   "GGUF", u32 version, u64 tensor count, u64 metadata count
//   metadata   each: key (string), u32 type, value; an array is u32 element type, u64 count, the elements
//   tensors    each: name (string), u32 rank, u64 lengths[rank] (innermost first), u32 ggml type, u64 offset
//   padding    to a multiple of `general.alignment` (32 when absent)
//   data       offsets count from here and are multiples of the alignment
//
// A string is a u64 length and that many bytes. Version 2 and 3 differ only in that 3 may be big-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/stored_tensor.h"

namespace ft::io {

// One key's value; a scalar is an array of one. Integers of every width are int64_t, floats double.
struct gguf_value {
  std::string key;
  std::variant<std::vector<int64_t>, std::vector<double>, std::vector<bool>, std::vector<std::string>> data;
  size_t length() const;
};

class gguf_metadata {
 public:
  gguf_metadata() = default;
  // Throws ft::error (FT_ERROR_CHECKPOINT) when a key appears twice. `file` is named in errors.
  gguf_metadata(std::string file, std::vector<gguf_value> values);

  const std::vector<gguf_value>& values() const { return values_; }  // in file order
  const gguf_value* find(std::string_view key) const;                // null when absent
  const std::string& file() const { return file_; }

  // Scalars; an absent key gives `otherwise`, or, without one, a checkpoint error; so does another type.
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t otherwise) const;
  double number(std::string_view key, double otherwise) const;  // an integer will do; must be finite
  bool boolean(std::string_view key, bool otherwise) const;
  std::string string(std::string_view key, std::string_view otherwise) const;

 private:
  template <class T>
  const T* scalar(std::string_view key, std::string_view expected) const;

  std::string file_;
  std::vector<gguf_value> values_;
  std::vector<size_t> by_key_;  // indices of values_, sorted by key
};

struct gguf_file {
  gguf_metadata metadata;
  std::vector<stored_tensor> tensors;  // in file order
};

// Parses the header of a mapped file and checks every tensor's place. Throws ft::error naming file, tensor or key, and
// fault: FT_ERROR_CHECKPOINT, or FT_ERROR_UNSUPPORTED for what the format knows and libft does not.
gguf_file parse_gguf(const std::shared_ptr<const mapped_file>& file);

}  // namespace ft::io
