// Files of torch.save made by hand, one field at a time, so that a test can tell any lie it likes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bytes.h"

namespace ft::test {

inline std::string u16(uint16_t value) { return number(value); }

// A zip archive in the making; fields are those of a stored entry unless a test says otherwise.
struct zip_spec {
  struct entry {
    std::string name, data;
    uint16_t method = 0, flags = 0;
    int64_t more_bytes = 0;  // sizes and offsets that lie by so much
    int64_t more_offset = 0;
    bool zip64 = false;   // sizes and offset in the extra field
    std::string padding;  // between header and data, as torch aligns
  };
  std::vector<entry> entries;
  int64_t more_entries = 0, more_directory = 0;
  bool zip64_end = false;
  std::string comment;

  std::string bytes() const {
    std::string out, directory;
    for (const entry& e : entries) {
      const auto size = static_cast<uint64_t>(static_cast<int64_t>(e.data.size()) + e.more_bytes);
      const auto offset = static_cast<uint64_t>(static_cast<int64_t>(out.size()) + e.more_offset);
      const uint32_t size32 = e.zip64 ? UINT32_MAX : static_cast<uint32_t>(size);
      const uint32_t offset32 = e.zip64 ? UINT32_MAX : static_cast<uint32_t>(offset);
      const std::string extra = e.zip64 ? u16(1) + u16(24) + u64(size) + u64(size) + u64(offset) : "";
      const std::string sizes = u32(0) + u32(size32) + u32(size32) + u16(static_cast<uint16_t>(e.name.size()));
      const std::string common = u16(20) + u16(e.flags) + u16(e.method) + u32(0);
      directory += "PK\1\2" + u16(20) + common + sizes + u16(static_cast<uint16_t>(extra.size())) + u16(0) + u16(0) +
                   u16(0) + u32(0) + u32(offset32) + e.name + extra;
      out += "PK\3\4" + common + sizes + u16(static_cast<uint16_t>(e.padding.size())) + e.name + e.padding + e.data;
    }
    const auto count = static_cast<uint64_t>(static_cast<int64_t>(entries.size()) + more_entries);
    const uint64_t at = out.size();
    const auto length = static_cast<uint64_t>(static_cast<int64_t>(directory.size()) + more_directory);
    out += directory;
    if (zip64_end) {
      const uint64_t end = out.size();
      out += "PK\6\6" + u64(44) + u16(20) + u16(20) + u32(0) + u32(0) + u64(count) + u64(count) + u64(length) + u64(at);
      out += "PK\6\7" + u32(0) + u64(end) + u32(1);
    }
    const uint16_t count16 = zip64_end ? UINT16_MAX : static_cast<uint16_t>(count);
    out += "PK\5\6" + u16(0) + u16(0) + u16(count16) + u16(count16) +
           u32(zip64_end ? UINT32_MAX : static_cast<uint32_t>(length)) +
           u32(zip64_end ? UINT32_MAX : static_cast<uint32_t>(at)) + u16(static_cast<uint16_t>(comment.size())) +
           comment;
    return out;
  }
};

// Pickles, opcode by opcode.
namespace pickle {

inline std::string text(std::string_view value) {
  return "X" + u32(static_cast<uint32_t>(value.size())) + std::string(value);
}
inline std::string integer(int64_t value) { return "\x8a\x08" + number(value); }
inline std::string global(std::string_view module, std::string_view name) { return cat("c", module, "\n", name, "\n"); }
inline std::string tuple(const std::string& items) { return "(" + items + "t"; }
inline std::string dictionary(const std::string& pairs) { return "}(" + pairs + "u"; }
inline std::string storage(std::string_view type, std::string_view key, int64_t elements) {
  return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") + integer(elements)) + "Q";
}
inline std::string integers(const std::vector<int64_t>& values) {
  std::string items;
  for (int64_t value : values) items += integer(value);
  return tuple(items);
}
// _rebuild_tensor_v2(storage, offset, size, stride, False, OrderedDict())
inline std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& size,
                          const std::vector<int64_t>& stride) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple(storage + integer(offset) + integers(size) + integers(stride) + "\x89" +
               global("collections", "OrderedDict") + ")R") +
         "R";
}
inline std::string whole(const std::string& value) { return "\x80\x02" + value + "."; }

}  // namespace pickle

// A file of torch.save: the pickled object, and storages "0", "1", ...
inline zip_spec torch_archive(const std::string& object, const std::vector<std::string>& storages) {
  zip_spec spec;
  spec.entries.push_back({.name = "archive/data.pkl", .data = pickle::whole(object)});
  for (size_t i = 0; i < storages.size(); ++i)
    spec.entries.push_back({.name = cat("archive/data/", i), .data = storages[i], .padding = std::string(7, 'Z')});
  return spec;
}

}  // namespace ft::test
