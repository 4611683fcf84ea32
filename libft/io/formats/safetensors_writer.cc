#include "io/formats/safetensors_writer.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/status.h"
#include "io/text/json.h"

namespace ft::io {
namespace {

std::string_view name_of(dtype type) {
  switch (type) {
    case dtype::f32:
      return "F32";
    case dtype::f16:
      return "F16";
    case dtype::bf16:
      return "BF16";
    default:
      FT_CHECK(is_quantised(type));  // a weight has no other type
      return "U8";
  }
}

}  // namespace

safetensors_writer::safetensors_writer(std::string path, const std::vector<entry>& entries) : file_(std::move(path)) {
  const json_ptr tree = make_json();
  uint64_t at = 0;
  for (const entry& e : entries) {
    json& item = (*tree)[e.name];
    item["dtype"] = name_of(e.type);
    int64_t elements = 1;
    for (int64_t n : e.shape) elements *= n;
    const uint64_t bytes = bytes_of(e.type, elements);
    json& shape = item["shape"] = json::value_t::array;
    for (int64_t n : e.shape) shape.push_back(n);
    if (is_quantised(e.type)) shape.back() = bytes_of(e.type, e.shape.back());
    json& offsets = item["data_offsets"] = json::value_t::array;
    offsets.push_back(at);
    offsets.push_back(at += bytes);
  }
  std::string header = tree->dump();
  constexpr size_t alignment = 64;  // of the data in the file, and so in memory
  header.resize((header.size() + 8 + alignment - 1) / alignment * alignment - 8, ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(uint64_t{header.size()} >> (8 * i));
  file_.write(length.data(), length.size());
  file_.write(header.data(), header.size());
  end_ = file_.written() + at;
}

void safetensors_writer::close() {
  FT_CHECK(file_.written() == end_);
  file_.close();
}

}  // namespace ft::io
