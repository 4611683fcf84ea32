// safetensors: a good file read, and every way to lie about one refused with its reason.
#include "io/formats/safetensors.h"

#include <string>

#include "bytes.h"

namespace ft::io {
namespace {

using test::counting;
using test::file_in_memory;
using test::safetensors;
using test::u64;

// Three tensors, 24 + 6 + 2 bytes, not in the order of their names.
const std::string good_header = R"({"__metadata__": {"format": "pt"},)"
                                R"("b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},)"
                                R"("a": {"dtype": "BF16", "shape": [3], "data_offsets": [24, 30]},)"
                                R"("c": {"dtype": "F16", "shape": [], "data_offsets": [30, 32]}})";

std::vector<stored_tensor> parse(const std::string& bytes) {
  file_in_memory file(bytes);
  return parse_safetensors(*file).tensors;
}

TEST(safetensors_tensors_are_views_of_the_file) {
  file_in_memory file(safetensors(good_header, counting(32)));
  const auto tensors = parse_safetensors(*file).tensors;
  CHECK_EQ(tensors.size(), 3u);
  CHECK_EQ(tensors[0].name, "b");
  CHECK_EQ(tensors[1].name, "a");
  CHECK_EQ(tensors[2].name, "c");
  const auto* data = (*file)->data() + 8 + good_header.size();
  CHECK(tensors[0].data.data == data && tensors[1].data.data == data + 24 && tensors[2].data.data == data + 30);
  CHECK(tensors[0].data.type == dtype::f32 && tensors[1].data.type == dtype::bf16 &&
        tensors[2].data.type == dtype::f16);
  CHECK_EQ(tensors[0].data.rank, 2);
  CHECK_EQ(tensors[0].data.dim(0), 2);
  CHECK_EQ(tensors[0].data.dim(1), 3);
  CHECK(tensors[0].data.contiguous());
  CHECK_EQ(tensors[0].data.stride[0], 3);
  CHECK_EQ(tensors[2].data.rank, 0);
  CHECK_EQ(tensors[2].data.size(), 1);
  CHECK_EQ(tensors[0].file->path(), "test.file");
}

TEST(safetensors_every_supported_dtype) {
  const std::pair<const char*, dtype> types[] = {
      {"F32", dtype::f32}, {"F16", dtype::f16}, {"BF16", dtype::bf16},   {"F64", dtype::f64}, {"I8", dtype::i8},
      {"U8", dtype::u8},   {"I16", dtype::i16}, {"I32", dtype::i32},     {"I64", dtype::i64}, {"U16", dtype::u16},
      {"U32", dtype::u32}, {"U64", dtype::u64}, {"BOOL", dtype::boolean}};
  for (const auto& [name, type] : types) {
    const size_t bytes = bytes_of(type, 5);
    file_in_memory file(safetensors(
        cat(R"({"t": {"dtype": ")", name, R"(", "shape": [5], "data_offsets": [0, )", bytes, "]}}"), counting(bytes)));
    const auto tensors = parse_safetensors(*file).tensors;
    CHECK(tensors.at(0).data.type == type);
  }
}

TEST(safetensors_empty_files_and_tensors) {
  CHECK(parse(safetensors("{}", "")).empty());
  CHECK(parse(safetensors("{}    ", "")).empty());  // padding
  const auto tensors = parse(safetensors(R"({"none": {"dtype": "F32", "shape": [0, 4], "data_offsets": [4, 4]},)"
                                         R"("one": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})",
                                         counting(4)));
  CHECK_EQ(tensors.size(), 2u);
  CHECK_EQ(tensors[1].name, "none");
  CHECK_EQ(tensors[1].data.size(), 0);
}

// A dtype or rank that libft lacks is no fault of the file: such a tensor stands apart, its place checked as any
// other's.
TEST(safetensors_foreign_tensors_stand_apart) {
  const std::pair<const char*, size_t> types[] = {{"F8_E4M3", 8}, {"F8_E5M2", 8},     {"F8_E8M0", 8},
                                                  {"C64", 64},    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
                                                  {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6}};
  for (const auto& [type, bits] : types) {
    const size_t bytes = 4 * 3 * bits / 8;
    file_in_memory file(safetensors(
        cat(R"({"odd": {"dtype": ")", type, R"(", "shape": [4, 3], "data_offsets": [0, )", bytes,
            R"(]}, "plain": {"dtype": "U8", "shape": [2], "data_offsets": [)", bytes, ", ", bytes + 2, "]}}"),
        counting(bytes + 2)));
    const tensor_file found = parse_safetensors(*file);
    CHECK_EQ(found.tensors.size(), 1u);
    CHECK_EQ(found.tensors[0].name, "plain");
    CHECK(found.tensors[0].data.data == (*file)->data() + (*file)->size() - 2);
    CHECK_EQ(found.foreign.size(), 1u);
    const foreign_tensor& odd = found.foreign[0];
    CHECK_EQ(odd.name, "odd");
    CHECK_EQ(odd.dtype, type);
    CHECK(odd.shape == std::vector<int64_t>({4, 3}));
    CHECK_EQ(odd.bytes, bytes);
    CHECK_EQ(odd.fault, cat("its dtype ", type, " is not supported"));
    CHECK_EQ(odd.file->path(), "test.file");
  }
  file_in_memory file(
      safetensors(R"({"deep": {"dtype": "BF16", "shape": [1, 2, 1, 3, 1], "data_offsets": [0, 12]}})", counting(12)));
  const tensor_file found = parse_safetensors(*file);
  CHECK(found.tensors.empty());
  CHECK_EQ(found.foreign.at(0).dtype, "bfloat16");
  CHECK(found.foreign.at(0).shape == std::vector<int64_t>({1, 2, 1, 3, 1}));
  CHECK_EQ(found.foreign.at(0).fault, "it has 5 axes; at most 4 are supported");
}

struct broken {
  const char* name;
  std::string bytes;
  const char* message;
};

void check_all(const std::vector<broken>& cases) {
  for (const broken& c : cases) {
    try {
      parse(c.bytes);
    } catch (const error& e) {
      const std::string message = e.what();
      CHECK_MSG(e.code() == FT_ERROR_CHECKPOINT, c.name, ": ", ft_status_name(e.code()), ": ", message);
      CHECK_MSG(message.find("test.file: ") == 0, c.name, ": ", message);
      CHECK_MSG(message.find(c.message) != std::string::npos, c.name, ": ", message);
      continue;
    }
    CHECK_MSG(false, c.name, " was accepted");
  }
}

// A file of one tensor "t" with these fields.
std::string one(const std::string& fields, size_t data_bytes = 8) {
  return safetensors("{\"t\": {" + fields + "}}", counting(data_bytes));
}

TEST(safetensors_broken_frames) {
  const std::string good = safetensors(good_header, counting(32));
  check_all({
      {"nothing", "", "is no safetensors file: it has only 0 bytes"},
      {"half a length", "\1\0\0", "is no safetensors file"},
      {"length alone", u64(2), "is truncated: its header has 2 bytes, but only 0 follow"},
      {"length over the file", u64(3) + "{}", "is truncated: its header has 3 bytes"},
      {"length over the limit", u64(100'000'001) + "{}", "would have 100000001 bytes"},
      {"length that overflows", u64(UINT64_MAX) + "{}", "would have 18446744073709551615 bytes"},
      {"length that wraps round", u64(UINT64_MAX - 7) + "{}", "is no safetensors file"},
      {"no header", u64(0), "invalid JSON at byte 0"},
      {"no JSON", safetensors("hello", ""), "invalid JSON"},
      {"a list", safetensors("[]", ""), "its header is no JSON object"},
      {"a name twice", safetensors(R"({"t": {}, "t": {}})", ""), "the key 't' appears twice"},
      {"deep", safetensors(std::string(1000, '['), ""), "nested deeper than 64"},
      {"metadata no object", safetensors(R"({"__metadata__": "x"})", ""),
       "'__metadata__' must be an object of strings"},
      {"metadata no strings", safetensors(R"({"__metadata__": {"a": 1}})", ""), "must be an object of strings"},
      {"bytes at the end", good + "x", "1 bytes at its end belong to no tensor"},
      {"data without tensors", safetensors("{}", "data"), "4 bytes at its end belong to no tensor"},
      {"data cut", good.substr(0, good.size() - 1), "tensor 'c': its data end at byte 32, but the file holds 31 bytes"},
  });
}

TEST(safetensors_broken_entries) {
  const std::string dtype = R"("dtype": "F32")", shape = R"("shape": [2])", offsets = R"("data_offsets": [0, 8])";
  CHECK_EQ(parse(one(dtype + "," + shape + "," + offsets)).size(), 1u);
  check_all({
      {"no object", safetensors(R"({"t": 3})", ""), "tensor 't': its entry in the header is no object"},
      {"no dtype", one(shape + "," + offsets), "tensor 't': its entry has no 'dtype'"},
      {"no shape", one(dtype + "," + offsets), "tensor 't': its entry has no 'shape'"},
      {"no offsets", one(dtype + "," + shape), "tensor 't': its entry has no 'data_offsets'"},
      {"dtype no string", one(R"("dtype": 1,)" + shape + "," + offsets), "tensor 't': 'dtype' is no string"},
      {"dtype unknown", one(R"("dtype": "F33",)" + shape + "," + offsets), "tensor 't': unknown dtype 'F33'"},
      {"too many bytes of a foreign dtype", one(R"("dtype": "F8_E4M3", "shape": [7],)" + offsets),
       "tensor 't': its shape takes 7 bytes, but its data offsets span 8"},
      {"no whole bytes", one(R"("dtype": "F4", "shape": [15],)" + offsets),
       "tensor 't': its shape takes 60 bits, no whole number of bytes"},
      {"shape no list", one(dtype + R"(,"shape": 2,)" + offsets), "tensor 't': 'shape' is no list"},
      {"shape of strings", one(dtype + R"(,"shape": ["2"],)" + offsets), "'shape' holds something other than"},
      {"negative shape", one(dtype + R"(,"shape": [-2],)" + offsets), "'shape' holds something other than"},
      {"broken shape", one(dtype + R"(,"shape": [2.0],)" + offsets), "'shape' holds something other than"},
      {"shape beyond 64 bits", one(dtype + R"(,"shape": [18446744073709551616],)" + offsets),
       "'shape' holds something other than"},
      {"shape that overflows", one(dtype + R"(,"shape": [4294967296, 4294967296, 2],)" + offsets),
       "tensor 't': its shape is too large"},
      {"bytes that overflow", one(dtype + R"(,"shape": [4611686018427387904],)" + offsets), "its shape is too large"},
      {"strides that overflow", one(dtype + R"(,"shape": [0, 4294967296, 4294967296],"data_offsets": [0, 0])", 0),
       "its shape is too large"},
      {"too many bytes of five axes", one(dtype + R"(,"shape": [1,1,1,1,1],)" + offsets),
       "tensor 't': its shape takes 4 bytes"},
      {"one offset", one(dtype + "," + shape + R"(,"data_offsets": [8])"), "'data_offsets' has 1 values, not 2"},
      {"three offsets", one(dtype + "," + shape + R"(,"data_offsets": [0, 8, 8])"), "'data_offsets' has 3 values"},
      {"offsets no list", one(dtype + "," + shape + R"(,"data_offsets": {})"), "'data_offsets' is no list"},
      {"negative offset", one(dtype + "," + shape + R"(,"data_offsets": [-8, 0])"), "'data_offsets' holds something"},
      {"offsets reversed", one(dtype + "," + shape + R"(,"data_offsets": [8, 0])"),
       "data end (0) before they begin (8)"},
      {"end past the file", one(dtype + "," + shape + R"(,"data_offsets": [4, 12])"), "its data end at byte 12"},
      {"end far past the file",
       one(dtype + "," + shape + R"(,"data_offsets": [18446744073709551607, 18446744073709551615])"),
       "its data end at byte 18446744073709551615"},
      {"too few bytes", one(dtype + R"(,"shape": [3],)" + offsets),
       "its shape takes 12 bytes, but its data offsets span 8"},
      {"too many bytes", one(dtype + R"(,"shape": [1],)" + offsets), "its shape takes 4 bytes"},
      {"nothing claimed of much", one(dtype + R"(,"shape": [0],)" + offsets), "its shape takes 0 bytes"},
      {"a zero byte in a name",
       safetensors("{\"t\\u0000\": {" + dtype + "," + shape + "," + offsets + "}}", counting(8)),
       "tensor 't\\x00': its name holds a zero byte"},
      {"no name", safetensors("{\"\": {" + dtype + "," + shape + "," + offsets + "}}", counting(8)), "has no name"},
  });
}

std::string two(const char* first, const char* second, size_t data_bytes) {
  return safetensors(cat(R"({"t": {"dtype": "U8", "shape": [8], "data_offsets": )", first,
                         R"(}, "u": {"dtype": "U8", "shape": [8], "data_offsets": )", second, "}}"),
                     counting(data_bytes));
}

TEST(safetensors_overlaps_and_holes) {
  CHECK_EQ(parse(two("[0, 8]", "[8, 16]", 16)).size(), 2u);
  CHECK_EQ(parse(two("[8, 16]", "[0, 8]", 16)).size(), 2u);
  check_all({
      {"the same bytes", two("[0, 8]", "[0, 8]", 8), "tensor 'u': its data overlap those of 't'"},
      {"one byte shared", two("[7, 15]", "[0, 8]", 15), "tensor 't': its data overlap those of 'u'"},
      {"a hole between", two("[0, 8]", "[9, 17]", 17), "tensor 'u': a hole of 1 bytes lies before its data"},
      {"a hole first", two("[1, 9]", "[9, 17]", 17), "tensor 't': a hole of 1 bytes lies before its data"},
      {"a tail", two("[0, 8]", "[8, 16]", 17), "1 bytes at its end belong to no tensor"},
  });
}

TEST(safetensors_every_prefix_is_refused) {
  test::check_prefixes(safetensors(good_header, counting(32)),
                       [](const file_in_memory& file) { parse_safetensors(*file); });
}

TEST(safetensors_any_byte_may_change) {
  test::check_flips(safetensors(good_header, counting(32)),
                    [](const file_in_memory& file) { parse_safetensors(*file); });
}

TEST(safetensors_names_in_messages_are_printable) {
  const std::string name(5000, 'n');
  try {
    parse(safetensors("{\"\\u0007" + name + "\": 1}", ""));
    CHECK(false);
  } catch (const error& e) {
    const std::string message = e.what();
    CHECK(message.size() < 400);
    CHECK(message.find("\\x07nnn") != std::string::npos && message.find("n...'") != std::string::npos);
  }
}

}  // namespace
}  // namespace ft::io
