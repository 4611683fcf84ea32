// Reads the header of a GGUF file; the data stay where they are.
#include "io/formats/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/status.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

// Far above any real header (a vocabulary of 256k tokens takes some 15 MB), and low enough that a file of zeros or a
// lying count is seen through soon.
constexpr size_t max_header_bytes = size_t{1} << 27;
// What is reserved at once on the word of a count; the rest grows as elements turn out to exist.
constexpr uint64_t max_reserve = 1 << 16;

constexpr uint64_t default_alignment = 32;

enum class value_type : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

struct ggml_type {
  uint32_t code;
  std::string_view name;
  std::optional<dtype> type;  // nothing: known to the format, but not to libft
};

constexpr std::array<ggml_type, 34> ggml_types = {{
    {0, "F32", dtype::f32},    {1, "F16", dtype::f16},   {2, "Q4_0", dtype::q4_0},  {3, "Q4_1", dtype::q4_1},
    {6, "Q5_0", dtype::q5_0},  {7, "Q5_1", dtype::q5_1}, {8, "Q8_0", dtype::q8_0},  {9, "Q8_1", {}},
    {10, "Q2_K", {}},          {11, "Q3_K", {}},         {12, "Q4_K", dtype::q4_k}, {13, "Q5_K", dtype::q5_k},
    {14, "Q6_K", dtype::q6_k}, {15, "Q8_K", {}},         {16, "IQ2_XXS", {}},       {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},       {19, "IQ1_S", {}},        {20, "IQ4_NL", {}},        {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},         {23, "IQ4_XS", {}},       {24, "I8", dtype::i8},     {25, "I16", dtype::i16},
    {26, "I32", dtype::i32},   {27, "I64", dtype::i64},  {28, "F64", dtype::f64},   {29, "IQ1_M", {}},
    {30, "BF16", dtype::bf16}, {34, "TQ1_0", {}},        {35, "TQ2_0", {}},         {39, "MXFP4", {}},
    {31, "Q4_0_4_4", {}},      {36, "IQ4_NL_4_4", {}},
}};

// The header's bytes from first to last. `subject` says in errors what is being read.
class reader {
 public:
  explicit reader(const mapped_file& file) : file_(file), end_(std::min(file.size(), max_header_bytes)) {}

  std::string subject;

  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_.path(), ": ", subject, ": ", args...);
  }
  template <class... Args>
  [[noreturn]] void unsupported(const Args&... args) const {
    fail(FT_ERROR_UNSUPPORTED, file_.path(), ": ", subject, ": ", args...);
  }

  size_t position() const { return at_; }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)), sizeof(T));
    return value;
  }

  std::string_view text() {
    const auto length = number<uint64_t>();
    return {reinterpret_cast<const char*>(take(length)), static_cast<size_t>(length)};
  }

  bool boolean() {
    const auto byte = number<uint8_t>();
    if (byte > 1) fault("a truth value is ", int{byte}, ", neither 0 nor 1");
    return byte != 0;
  }

  // Every value of `count` takes at least `each` bytes: a count that cannot be true is refused before it is used.
  void expect(uint64_t count, size_t each, std::string_view what) const {
    if (count > (end_ - at_) / each) fault("claims ", count, " ", what, ", which do not fit ", rest());
  }

 private:
  std::string rest() const {
    return end_ == file_.size() ? cat("the ", end_ - at_, " bytes left of the file; is it truncated?")
                                : cat("the ", end_ - at_, " bytes left of the largest header allowed");
  }

  const std::byte* take(uint64_t bytes) {
    if (bytes > end_ - at_) fault("takes ", bytes, " bytes, which do not fit ", rest());
    const std::byte* taken = file_.data() + at_;
    at_ += static_cast<size_t>(bytes);
    return taken;
  }

  const mapped_file& file_;
  size_t at_ = 0;
  size_t end_;
};

// `count` things, named `what` in errors, that read() gives one at a time, each of at least `bytes` bytes in the file.
template <class T, class Read>
std::vector<T> read_list(reader& in, std::string_view what, uint64_t count, size_t bytes, Read read) {
  in.expect(count, bytes, what);
  std::vector<T> values;
  values.reserve(static_cast<size_t>(std::min(count, max_reserve)));
  for (uint64_t i = 0; i < count; ++i) values.push_back(read());
  return values;
}

template <class Stored>
std::vector<int64_t> read_integers(reader& in, uint64_t count) {
  return read_list<int64_t>(in, "values", count, sizeof(Stored), [&in] {
    const auto value = in.number<Stored>();
    if constexpr (std::is_same_v<Stored, uint64_t>)
      if (value > uint64_t{std::numeric_limits<int64_t>::max()}) in.fault("the value ", value, " is beyond 63 bits");
    return static_cast<int64_t>(value);
  });
}

template <class Stored>
std::vector<double> read_floats(reader& in, uint64_t count) {
  return read_list<double>(in, "values", count, sizeof(Stored),
                           [&in] { return static_cast<double>(in.number<Stored>()); });
}

decltype(gguf_value::data) read_values(reader& in, uint32_t type, uint64_t count) {
  switch (static_cast<value_type>(type)) {
    case value_type::u8:
      return read_integers<uint8_t>(in, count);
    case value_type::i8:
      return read_integers<int8_t>(in, count);
    case value_type::u16:
      return read_integers<uint16_t>(in, count);
    case value_type::i16:
      return read_integers<int16_t>(in, count);
    case value_type::u32:
      return read_integers<uint32_t>(in, count);
    case value_type::i32:
      return read_integers<int32_t>(in, count);
    case value_type::u64:
      return read_integers<uint64_t>(in, count);
    case value_type::i64:
      return read_integers<int64_t>(in, count);
    case value_type::f32:
      return read_floats<float>(in, count);
    case value_type::f64:
      return read_floats<double>(in, count);
    case value_type::boolean:
      return read_list<bool>(in, "values", count, 1, [&in] { return in.boolean(); });
    case value_type::string:
      return read_list<std::string>(in, "values", count, sizeof(uint64_t), [&in] { return std::string(in.text()); });
    case value_type::array:
      in.unsupported("an array of arrays is not supported");
  }
  in.fault("has the unknown value type ", type);
}

gguf_value read_pair(reader& in, uint64_t index) {
  in.subject = cat("metadata entry ", index);
  gguf_value pair;
  pair.key = in.text();
  if (pair.key.empty()) in.fault("its key is empty");
  in.subject = cat("metadata key '", printable(pair.key), "'");
  if (!is_name(pair.key)) in.fault("is no UTF-8 text");
  auto type = in.number<uint32_t>();
  uint64_t count = 1;
  if (type == static_cast<uint32_t>(value_type::array)) {
    type = in.number<uint32_t>();
    count = in.number<uint64_t>();
  }
  pair.data = read_values(in, type, count);
  return pair;
}

struct entry {
  std::string_view name;
  dtype type;
  uint32_t rank = 0;
  std::array<uint64_t, tensor::max_rank> dims{};  // outermost first
  uint64_t offset = 0;                            // from the start of the data
  uint64_t bytes = 0;

  std::span<const uint64_t> shape() const { return {dims.data(), rank}; }
};

dtype dtype_of(reader& in, uint32_t code) {
  for (const ggml_type& known : ggml_types) {
    if (known.code != code) continue;
    if (!known.type) in.unsupported("the ggml type ", known.name, " is not supported");
    return *known.type;
  }
  in.fault("has the unknown ggml type ", code);
}

entry read_tensor(reader& in, uint64_t index, uint64_t alignment) {
  in.subject = cat("tensor entry ", index);
  entry e{in.text(), dtype::f32};
  if (e.name.empty()) in.fault("its name is empty");
  in.subject = cat("tensor '", printable(e.name), "'");
  if (!is_name(e.name)) in.fault("its name is no UTF-8 text");
  e.rank = in.number<uint32_t>();
  if (e.rank > e.dims.size()) in.fault("has ", e.rank, " axes; at most ", e.dims.size(), " are allowed");
  for (uint32_t axis = e.rank; axis-- > 0;) e.dims[axis] = in.number<uint64_t>();
  e.type = dtype_of(in, in.number<uint32_t>());
  e.offset = in.number<uint64_t>();
  const auto block = static_cast<uint64_t>(traits(e.type).block_elements);
  if ((e.rank ? e.dims[e.rank - 1] : 1) % block != 0)
    in.fault("its rows are no whole number of ", name(e.type), " blocks of ", block);
  const std::optional<uint64_t> bytes = stored_bytes(e.type, e.shape());
  if (!bytes) in.fault("its shape is too large");
  e.bytes = *bytes;
  if (e.offset % alignment != 0) in.fault("its offset ", e.offset, " is no multiple of the alignment ", alignment);
  return e;
}

void read_magic(reader& in, const mapped_file& file) {
  if (file.text().substr(0, 4) != "GGUF")
    fail(FT_ERROR_CHECKPOINT, file.path(), ": is no GGUF file: it does not begin with 'GGUF'");
  in.subject = "GGUF header";
  in.number<uint32_t>();
  in.subject = "GGUF version";
  const auto version = in.number<uint32_t>();
  if (version != 0 && (version & 0xffff) == 0)
    in.unsupported("a big-endian file is not supported; convert it to little-endian");
  if (version != 2 && version != 3) in.unsupported("version ", version, " is not supported; 2 and 3 are");
}

uint64_t alignment_of(const gguf_metadata& metadata) {
  const int64_t alignment = metadata.integer("general.alignment", default_alignment);
  if (alignment <= 0 || (alignment & (alignment - 1)) != 0)
    fail(FT_ERROR_CHECKPOINT, metadata.file(), ": 'general.alignment' is ", alignment, ", no power of two");
  return static_cast<uint64_t>(alignment);
}

void refuse_split(const gguf_metadata& metadata) {
  if (const int64_t parts = metadata.integer("split.count", 1); parts > 1)
    fail(FT_ERROR_UNSUPPORTED, metadata.file(), ": is one of ", parts,
         " parts of a split model; merge them into one file (llama-gguf-split --merge)");
}

// Every tensor lies in the data, and none on another.
void check_places(const mapped_file& file, const std::vector<entry>& entries, uint64_t data_bytes) {
  std::vector<const entry*> ordered;
  ordered.reserve(entries.size());
  for (const entry& e : entries) {
    if (e.offset > data_bytes || e.bytes > data_bytes - e.offset)
      fail(FT_ERROR_CHECKPOINT, file.path(), ": tensor '", printable(e.name), "': its ", e.bytes, " bytes at offset ",
           e.offset, " reach beyond the ", data_bytes, " bytes of data in the file; is it truncated?");
    if (e.bytes) ordered.push_back(&e);
  }
  std::sort(ordered.begin(), ordered.end(), [](const entry* a, const entry* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < ordered.size(); ++i)
    if (ordered[i]->offset - ordered[i - 1]->offset < ordered[i - 1]->bytes)
      fail(FT_ERROR_CHECKPOINT, file.path(), ": tensor '", printable(ordered[i]->name),
           "': its data overlap those of '", printable(ordered[i - 1]->name), "'");
}

// Where the data begin: after the header, at the next multiple of the alignment.
uint64_t data_begin(const mapped_file& file, uint64_t header_bytes, uint64_t alignment, bool any) {
  const uint64_t begin = header_bytes + (alignment - header_bytes % alignment) % alignment;
  if (begin > file.size() && any)
    fail(FT_ERROR_CHECKPOINT, file.path(), ": is truncated: it ends before its tensors' data");
  return std::min<uint64_t>(begin, file.size());
}

}  // namespace

gguf_file parse_gguf(const std::shared_ptr<const mapped_file>& file) {
  reader in(*file);
  read_magic(in, *file);
  in.subject = "GGUF header";
  const auto tensor_count = in.number<uint64_t>();
  const auto pair_count = in.number<uint64_t>();

  // A pair takes a key of one byte, a type and a value at the least; a tensor a name of one byte, rank, type and
  // offset.
  gguf_file out;
  out.metadata =
      gguf_metadata(file->path(), read_list<gguf_value>(in, "metadata entries", pair_count, 8 + 1 + 4 + 1,
                                                        [&, i = uint64_t{0}]() mutable { return read_pair(in, i++); }));
  refuse_split(out.metadata);
  const uint64_t alignment = alignment_of(out.metadata);
  in.subject = "GGUF header";
  const auto entries = read_list<entry>(in, "tensors", tensor_count, 8 + 1 + 4 + 4 + 8,
                                        [&, i = uint64_t{0}]() mutable { return read_tensor(in, i++, alignment); });
  const uint64_t begin = data_begin(*file, in.position(), alignment, !entries.empty());
  check_places(*file, entries, file->size() - begin);

  out.tensors.reserve(entries.size());
  for (const entry& e : entries)
    out.tensors.push_back(view_stored(std::string(e.name), e.type, e.shape(), file, begin + e.offset));
  return out;
}

}  // namespace ft::io
