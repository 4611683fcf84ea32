// Reads the header of a safetensors file; the data stay where they are.
#include "io/formats/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <utility>

#include "core/status.h"
#include "io/text/json.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

constexpr uint64_t length_bytes = 8;
constexpr uint64_t max_header_bytes = 100'000'000;

struct stored_dtype {
  std::string_view name;
  uint64_t bits;              // an element's
  std::optional<dtype> type;  // nothing: a dtype of the format that libft has no tensor for
};

constexpr std::array<stored_dtype, 22> stored_dtypes = {{
    {"F32", 32, dtype::f32}, {"F16", 16, dtype::f16}, {"BF16", 16, dtype::bf16},
    {"F64", 64, dtype::f64}, {"I8", 8, dtype::i8},    {"U8", 8, dtype::u8},
    {"I16", 16, dtype::i16}, {"I32", 32, dtype::i32}, {"I64", 64, dtype::i64},
    {"U16", 16, dtype::u16}, {"U32", 32, dtype::u32}, {"U64", 64, dtype::u64},
    {"F8_E4M3", 8, {}},      {"F8_E5M2", 8, {}},      {"BOOL", 8, dtype::boolean},
    {"F8_E8M0", 8, {}},      {"F6_E2M3", 6, {}},      {"F6_E3M2", 6, {}},
    {"F4", 4, {}},           {"C64", 64, {}},         {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
}};

struct entry {
  std::string_view name;
  const stored_dtype* type = nullptr;
  std::vector<uint64_t> shape;
  uint64_t begin = 0, end = 0;  // from the start of the data
};

// Bits of a tensor of this shape; nothing when its elements, bits or strides are beyond 64 bits.
std::optional<uint64_t> stored_bits(uint64_t element_bits, const std::vector<uint64_t>& shape) {
  uint64_t bits = element_bits;  // axes of length 0 count as 1 here: strides are products of the others
  bool empty = false;
  for (uint64_t length : shape) {
    empty = empty || length == 0;
    if (length && __builtin_mul_overflow(bits, length, &bits)) return std::nullopt;
  }
  return empty ? 0 : bits;
}

// One tensor's entry in the header, and how its faults are told.
class entry_reader {
 public:
  entry_reader(const mapped_file& file, std::string_view name, const json& fields, uint64_t data_bytes)
      : file_(file), name_(name), fields_(fields), data_bytes_(data_bytes) {}

  entry read() const {
    if (name_.empty()) fault("has no name");
    if (!is_name(name_)) fault("its name holds a zero byte");
    if (!fields_.is_object()) fault("its entry in the header is no object");
    entry e{.name = name_, .type = &read_dtype()};
    for (const json& length : list("shape")) e.shape.push_back(count(length, "shape"));
    read_offsets(e);
    return e;
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_.path(), ": tensor '", printable(name_), "': ", args...);
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

  const stored_dtype& read_dtype() const {
    const auto* text = field("dtype").get_ptr<const std::string*>();
    if (!text) fault("'dtype' is no string");
    for (const stored_dtype& known : stored_dtypes)
      if (known.name == *text) return known;
    fault("unknown dtype '", printable(*text), "'");
  }

  void read_offsets(entry& e) const {
    const json::array_t& offsets = list("data_offsets");
    if (offsets.size() != 2) fault("'data_offsets' has ", offsets.size(), " values, not 2");
    e.begin = count(offsets[0], "data_offsets");
    e.end = count(offsets[1], "data_offsets");
    if (e.begin > e.end) fault("its data end (", e.end, ") before they begin (", e.begin, ")");
    if (e.end > data_bytes_)
      fault("its data end at byte ", e.end, ", but the file holds ", data_bytes_, " bytes of data; is it truncated?");
    const std::optional<uint64_t> bits = stored_bits(e.type->bits, e.shape);
    if (!bits) fault("its shape is too large");
    if (*bits % 8) fault("its shape takes ", *bits, " bits, no whole number of bytes");
    if (*bits / 8 != e.end - e.begin)
      fault("its shape takes ", *bits / 8, " bytes, but its data offsets span ", e.end - e.begin);
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

// Why libft has no tensor for an entry; empty when it has one.
std::string foreign_fault(const entry& e) {
  if (!e.type->type) return cat("its dtype ", e.type->name, " is not supported");
  if (e.shape.size() > static_cast<size_t>(tensor::max_rank))
    return cat("it has ", e.shape.size(), " axes; at most ", tensor::max_rank, " are supported");
  return "";
}

}  // namespace

tensor_file parse_safetensors(const std::shared_ptr<const mapped_file>& file) {
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

  tensor_file out;
  out.tensors.reserve(entries.size());
  for (const entry& e : entries) {
    if (std::string fault = foreign_fault(e); fault.empty())
      out.tensors.push_back(view_stored(std::string(e.name), *e.type->type, e.shape, file, data_begin + e.begin));
    else
      out.foreign.push_back({.name = std::string(e.name),
                             .dtype = std::string(e.type->type ? name(*e.type->type) : e.type->name),
                             .shape = {e.shape.begin(), e.shape.end()},
                             .bytes = e.end - e.begin,
                             .fault = std::move(fault),
                             .file = file});
  }
  return out;
}

}  // namespace ft::io
