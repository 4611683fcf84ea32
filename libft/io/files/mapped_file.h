// A file mapped read-only into memory, unmapped when the last owner goes.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace ft::io {

class mapped_file {
 public:
  // Throws ft::error (FT_ERROR_CHECKPOINT) naming the path when it cannot be opened or is no regular file.
  static std::shared_ptr<const mapped_file> open(const std::string& path);
  // Bytes already in memory, for tests and fuzzing; not copied.
  static std::shared_ptr<const mapped_file> wrap(const void* data, size_t size, std::string name);
  ~mapped_file();
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;

  const std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::string& path() const { return path_; }

 private:
  explicit mapped_file(std::string path) : path_(std::move(path)) {}
  void map();

  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool mapped_ = false;
  std::string path_;
};

}  // namespace ft::io
