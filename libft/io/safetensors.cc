// Reads the header of a safetensors file; the data stay where they are.
#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/status.h"
#include "io/json.h"
#include "io/printable.h"

namespace ft::io {
namespace {

constexpr uint64_t length_bytes = 8;
constexpr uint64_t max_header_bytes = 100'000'000;

struct dtype_name {
  std::string_view name;
  std::optional<dtype> type;  // nothing: a dtype of the format that libft has no tensor for
};

constexpr std::array<dtype_name, 21> dtype_names = {{
    {"F32", dtype::f32}, {"F16", dtype::f16}, {"BF16", dtype::bf16}, {"F64", dtype::f64}, {"I8", dtype::i8},
    {"U8", dtype::u8},   {"I16", dtype::i16}, {"I32", dtype::i32},   {"I64", dtype::i64}, {"BOOL", dtype::boolean},
    {"U16", dtype::u16}, {"U32", dtype::u32}, {"U64", dtype::u64},   {"F8_E4M3", {}},     {"F8_E5M2", {}},
    {"F8_E8M0", {}},     {"F6_E2M3", {}},     {"F6_E3M2", {}},       {"F4", {}},          {"C64", {}},
    {"F8_E4M3FNUZ", {}},
}};

struct entry {
  std::string_view name;
  dtype type;
  int rank = 0;
  std::array<uint64_t, tensor::max_rank> dims{};
  uint64_t begin = 0, end = 0;  // from the start of the data

  std::span<const uint64_t> shape() const { return {dims.data(), static_cast<size_t>(rank)}; }
};

// One tensor's entry in the header, and how its faults are told.
class entry_reader {
 public:
  entry_reader(const mapped_file& file, std::string_view name, const json& fields, uint64_t data_bytes)
      : file_(file), name_(name), fields_(fields), data_bytes_(data_bytes) {}

  entry read() const {
    if (name_.empty()) fault("has no name");
    if (!is_name(name_)) fault("its name holds a zero byte");
    if (!fields_.is_object()) fault("its entry in the header is no object");
    entry e{name_, read_dtype()};
    read_shape(e);
    read_offsets(e);
    return e;
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_.path(), ": tensor '", printable(name_), "': ", args...);
  }
  template <class... Args>
  [[noreturn]] void unsupported(const Args&... args) const {
    fail(FT_ERROR_UNSUPPORTED, file_.path(), ": tensor '", printable(name_), "': ", args...);
  }

  const json& field(const char* key) const {
    auto at = fields_.find(key);
    if (at == fields_.end()) fault("its entry has no '", key, "'");
    return *at;
  }

  const json::array_t& list(const char* key) const {
    const auto* values = field(key).get_ptr<const json::array_t*>();
    if (!values) fault("'", key, "' is no list");
    return *values;
  }

  uint64_t count(const json& value, const char* key) const {
    if (!value.is_number_unsigned()) fault("'", key, "' holds something other than a whole number from 0 to 2^64-1");
    return value.get<uint64_t>();
  }

  dtype read_dtype() const {
    const auto* text = field("dtype").get_ptr<const std::string*>();
    if (!text) fault("'dtype' is no string");
    for (const dtype_name& known : dtype_names) {
      if (known.name != *text) continue;
      if (!known.type) unsupported("dtype ", known.name, " is not supported");
      return *known.type;
    }
    fault("unknown dtype '", printable(*text), "'");
  }

  void read_shape(entry& e) const {
    const json::array_t& lengths = list("shape");
    if (lengths.size() > e.dims.size()) unsupported("has ", lengths.size(), " axes; at most 4 are supported");
    for (const json& length : lengths) e.dims[e.rank++] = count(length, "shape");
  }

  void read_offsets(entry& e) const {
    const json::array_t& offsets = list("data_offsets");
    if (offsets.size() != 2) fault("'data_offsets' has ", offsets.size(), " values, not 2");
    e.begin = count(offsets[0], "data_offsets");
    e.end = count(offsets[1], "data_offsets");
    if (e.begin > e.end) fault("its data end (", e.end, ") before they begin (", e.begin, ")");
    if (e.end > data_bytes_)
      fault("its data end at byte ", e.end, ", but the file holds ", data_bytes_, " bytes of data; is it truncated?");
    std::optional<uint64_t> bytes = stored_bytes(e.type, e.shape());
    if (!bytes) fault("its shape is too large");
    if (*bytes != e.end - e.begin)
      fault("its shape takes ", *bytes, " bytes, but its data offsets span ", e.end - e.begin);
  }

  const mapped_file& file_;
  std::string_view name_;
  const json& fields_;
  uint64_t data_bytes_;
};

uint64_t read_header_length(const mapped_file& file) {
  if (file.size() < length_bytes)
    fail(FT_ERROR_CHECKPOINT, file.path(), ": is no safetensors file: it has only ", file.size(), " bytes");
  uint64_t length = 0;
  for (size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<uint64_t>(file.data()[i]);
  if (length > max_header_bytes)
    fail(FT_ERROR_CHECKPOINT, file.path(), ": is no safetensors file: its header would have ", length,
         " bytes; at most ", max_header_bytes, " are allowed");
  if (length > file.size() - length_bytes)
    fail(FT_ERROR_CHECKPOINT, file.path(), ": is truncated: its header has ", length, " bytes, but only ",
         file.size() - length_bytes, " follow");
  return length;
}

void check_metadata(const mapped_file& file, const json& metadata) {
  bool good = metadata.is_object();
  if (good)
    for (const json& value : metadata) good = good && value.is_string();
  if (!good) fail(FT_ERROR_CHECKPOINT, file.path(), ": '__metadata__' must be an object of strings");
}

// The tensors, ordered by their data, must cover all of it and share none.
void check_cover(const mapped_file& file, std::vector<entry>& entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const entry& a, const entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  uint64_t covered = 0;
  std::string_view last;
  for (const entry& e : entries) {
    if (e.begin < covered)
      fail(FT_ERROR_CHECKPOINT, file.path(), ": tensor '", printable(e.name), "': its data overlap those of '",
           printable(last), "'");
    if (e.begin > covered)
      fail(FT_ERROR_CHECKPOINT, file.path(), ": tensor '", printable(e.name), "': a hole of ", e.begin - covered,
           " bytes lies before its data");
    covered = e.end;
    last = e.name;
  }
  if (covered != data_bytes)
    fail(FT_ERROR_CHECKPOINT, file.path(), ": ", data_bytes - covered, " bytes at its end belong to no tensor");
}

}  // namespace

std::vector<stored_tensor> parse_safetensors(const std::shared_ptr<const mapped_file>& file) {
  const uint64_t header_bytes = read_header_length(*file);
  const uint64_t data_begin = length_bytes + header_bytes;
  const uint64_t data_bytes = file->size() - data_begin;
  json_ptr header = parse_json(file->text().substr(length_bytes, header_bytes), file->path());
  const auto* items = header->get_ptr<const json::object_t*>();
  if (!items) fail(FT_ERROR_CHECKPOINT, file->path(), ": its header is no JSON object");

  std::vector<entry> entries;
  entries.reserve(items->size());
  for (const auto& [name, fields] : *items) {
    if (name == "__metadata__")
      check_metadata(*file, fields);
    else
      entries.push_back(entry_reader(*file, name, fields, data_bytes).read());
  }
  check_cover(*file, entries, data_bytes);

  std::vector<stored_tensor> tensors;
  tensors.reserve(entries.size());
  for (const entry& e : entries)
    tensors.push_back(view_stored(std::string(e.name), e.type, e.shape(), file, data_begin + e.begin));
  return tensors;
}

}  // namespace ft::io
