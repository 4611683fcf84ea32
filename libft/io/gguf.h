// GGUF v2 and v3 files (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "io/stored_tensor.h"

namespace ft::io {

// One key's value; a scalar is an array of one.
struct gguf_value {
  std::string key;
  std::variant<std::vector<int64_t>, std::vector<double>, std::vector<bool>, std::vector<std::string>> data;
  size_t length() const;
};

class gguf_metadata {
 public:
  const std::vector<gguf_value>& values() const { return values_; }
  const gguf_value* find(std::string_view key) const;

  // Scalars; an absent key gives `otherwise`, or, without one, a checkpoint error; so does another type.
  int64_t integer(std::string_view key) const;
  int64_t integer(std::string_view key, int64_t otherwise) const;
  double number(std::string_view key, double otherwise) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string string(std::string_view key, std::string_view otherwise) const;

  std::vector<gguf_value> values_;
  std::string file_;
};

struct gguf_file {
  gguf_metadata metadata;
  std::vector<stored_tensor> tensors;
};

// Parses the header of a mapped file and checks every tensor's place. Throws ft::error (FT_ERROR_CHECKPOINT).
gguf_file parse_gguf(const std::shared_ptr<const mapped_file>& file);

}  // namespace ft::io
