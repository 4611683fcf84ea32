// Files and folders that libft writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft::io {

// A new file, open for writing. Faults are ft::error (FT_ERROR_CHECKPOINT) naming the path.
class output_file {
 public:
  explicit output_file(std::string path);  // which must not exist
  ~output_file();
  output_file(const output_file&) = delete;
  output_file& operator=(const output_file&) = delete;

  void write(const void* data, uint64_t bytes);
  void close();  // with everything on the disk
  uint64_t written() const { return written_; }
  const std::string& path() const { return path_; }

 private:
  [[noreturn]] void fault(const char* what) const;
  std::string path_;
  int descriptor_ = -1;
  uint64_t written_ = 0;
};

// A folder that comes to be as a whole or not at all: it is filled under another name beside its own, and renamed by
// commit(). Dropped before that, it is removed with its files.
class output_folder {
 public:
  // Throws ft::error (FT_ERROR_INVALID_ARGUMENT) when `path` exists and may not be replaced: `replaceable` is the name
  // of a file that must be in it for that, empty to replace nothing.
  output_folder(std::string path, std::string_view replaceable);
  ~output_folder();
  output_folder(const output_folder&) = delete;
  output_folder& operator=(const output_folder&) = delete;

  std::string add(std::string_view file);  // the path under which to write it
  void write(std::string_view file, std::string_view contents);
  void commit();

 private:
  std::string path_, filled_;
  std::vector<std::string> files_;
  bool replaces_ = false;
};

}  // namespace ft::io
