// Checkpoint files made by hand, one field at a time, so that a test can tell any lie it likes.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "check.h"
#include "io/files/mapped_file.h"

namespace ft::test {

// Little-endian, as both formats are.
template <class T>
std::string number(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
inline std::string u32(uint32_t value) { return number(value); }
inline std::string u64(uint64_t value) { return number(value); }

// `count` bytes 1, 2, 3, ... so that misplaced data show.
inline std::string counting(size_t count) {
  std::string bytes(count, '\0');
  for (size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i + 1);
  return bytes;
}

inline std::string safetensors(const std::string& header, const std::string& data) {
  return u64(header.size()) + header + data;
}

// A GGUF file in the making: fields as they are written, right or wrong.
struct gguf_spec {
  static std::string string(std::string_view text) { return u64(text.size()) + std::string(text); }
  // One metadata entry; `value` as it is stored.
  static std::string pair(std::string_view key, uint32_t type, const std::string& value) {
    return string(key) + u32(type) + value;
  }
  static std::string array(std::string_view key, uint32_t type, uint64_t count, const std::string& values) {
    return pair(key, 9, u32(type) + u64(count) + values);
  }
  // One tensor; lengths innermost first.
  static std::string tensor(std::string_view name, const std::vector<uint64_t>& lengths, uint32_t type,
                            uint64_t offset) {
    std::string bytes = string(name) + u32(static_cast<uint32_t>(lengths.size()));
    for (uint64_t length : lengths) bytes += u64(length);
    return bytes + u32(type) + u64(offset);
  }

  std::string magic = "GGUF";
  uint32_t version = 3;
  std::vector<std::string> pairs;
  std::vector<std::string> tensors;
  int64_t more_pairs = 0;  // counts that lie by so many
  int64_t more_tensors = 0;
  size_t alignment = 32;
  std::string data;

  std::string bytes() const {
    std::string out = magic + u32(version) + u64(tensors.size() + static_cast<uint64_t>(more_tensors)) +
                      u64(pairs.size() + static_cast<uint64_t>(more_pairs));
    for (const std::string& pair : pairs) out += pair;
    for (const std::string& tensor : tensors) out += tensor;
    if (alignment) out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data;
  }
};

// A file in memory whose end is the end of an allocation, so that a sanitizer sees one byte too many read.
class file_in_memory {
 public:
  explicit file_in_memory(std::string_view bytes)
      : bytes_(bytes.begin(), bytes.end()), file_(io::mapped_file::wrap(bytes_.data(), bytes_.size(), "test.file")) {}
  const std::shared_ptr<const io::mapped_file>& operator*() const { return file_; }

 private:
  std::vector<char> bytes_;
  std::shared_ptr<const io::mapped_file> file_;
};

// Runs `parse` on every strict prefix of a good file: each must be refused as a broken checkpoint.
inline void check_prefixes(const std::string& good, const std::function<void(const file_in_memory&)>& parse) {
  for (size_t length = 0; length < good.size(); ++length) {
    try {
      parse(file_in_memory(std::string_view(good).substr(0, length)));
    } catch (const error& e) {
      CHECK_MSG(e.code() == FT_ERROR_CHECKPOINT, "cut to ", length, " bytes: ", e.what());
      continue;
    }
    CHECK_MSG(false, "cut to ", length, " of ", good.size(), " bytes, the file was accepted");
  }
}

// Changes every byte of a good file in several ways; the parser may accept or refuse, but only by ft::error.
inline void check_flips(const std::string& good, const std::function<void(const file_in_memory&)>& parse) {
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    for (int change : {0x01, 0x20, 0x80, 0xff}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ change);
      try {
        parse(file_in_memory(bad));
      } catch (const error& e) {
        CHECK_MSG(e.code() == FT_ERROR_CHECKPOINT || e.code() == FT_ERROR_UNSUPPORTED, e.what());
        ++refused;
      }
    }
  }
  CHECK(refused > 0);
}

}  // namespace ft::test
