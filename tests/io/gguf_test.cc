// GGUF: a good file read, and every way to lie about one refused with its reason.
#include "io/formats/gguf.h"

#include <cmath>
#include <limits>
#include <string>

#include "bytes.h"

namespace ft::io {
namespace {

using test::counting;
using test::file_in_memory;
using test::gguf_spec;
using test::number;
using test::u32;
using test::u64;

enum : uint32_t { u8_t, i8_t, u16_t, i16_t, u32_t, i32_t, f32_t, bool_t, string_t, array_t, u64_t, i64_t, f64_t };
enum : uint32_t { ggml_f32 = 0, ggml_q4_0 = 2, ggml_q8_0 = 8, ggml_q6_k = 14, ggml_i8 = 24 };

gguf_spec good_spec() {
  gguf_spec spec;
  spec.pairs = {
      gguf_spec::pair("general.architecture", string_t, gguf_spec::string("llama")),
      gguf_spec::pair("llama.block_count", u32_t, u32(2)),
      gguf_spec::array("tokenizer.ggml.tokens", string_t, 2, gguf_spec::string("a") + gguf_spec::string("bc")),
  };
  spec.tensors = {
      gguf_spec::tensor("matrix", {3, 2}, ggml_f32, 0),     // 24 bytes, padded to 32
      gguf_spec::tensor("blocks", {64, 2}, ggml_q4_0, 32),  // 4 blocks of 18: 72 bytes, padded to 96
      gguf_spec::tensor("vector", {5}, ggml_i8, 128),       // 5 bytes
  };
  spec.data = counting(133);
  return spec;
}

gguf_file parse(const std::string& bytes) {
  file_in_memory file(bytes);
  return parse_gguf(*file);
}

TEST(gguf_tensors_are_views_of_the_file) {
  const std::string bytes = good_spec().bytes();
  file_in_memory file(bytes);
  const gguf_file parsed = parse_gguf(*file);
  CHECK_EQ(parsed.tensors.size(), 3u);
  const tensor& matrix = parsed.tensors[0].data;
  const tensor& blocks = parsed.tensors[1].data;
  const tensor& vector = parsed.tensors[2].data;
  const auto* data = (*file)->data() + bytes.size() - 133;
  CHECK(matrix.data == data && blocks.data == data + 32 && vector.data == data + 128);
  CHECK(matrix.type == dtype::f32 && blocks.type == dtype::q4_0 && vector.type == dtype::i8);
  CHECK_EQ(parsed.tensors[0].name, "matrix");
  CHECK_EQ(matrix.rank, 2);
  CHECK_EQ(matrix.dim(0), 2);  // outermost first
  CHECK_EQ(matrix.dim(1), 3);
  CHECK(matrix.contiguous() && blocks.contiguous());
  CHECK_EQ(blocks.dim(1), 64);
  CHECK_EQ(vector.rank, 1);
}

TEST(gguf_versions_2_and_3_are_read) {
  for (uint32_t version : {2u, 3u}) {
    gguf_spec spec = good_spec();
    spec.version = version;
    CHECK_EQ(parse(spec.bytes()).tensors.size(), 3u);
  }
}

TEST(gguf_metadata_of_every_type) {
  gguf_spec spec;
  spec.pairs = {
      gguf_spec::pair("u8", u8_t, number<uint8_t>(255)),
      gguf_spec::pair("i8", i8_t, number<int8_t>(-128)),
      gguf_spec::pair("u16", u16_t, number<uint16_t>(65535)),
      gguf_spec::pair("i16", i16_t, number<int16_t>(-2)),
      gguf_spec::pair("u32", u32_t, u32(4294967295u)),
      gguf_spec::pair("i32", i32_t, number<int32_t>(-3)),
      gguf_spec::pair("u64", u64_t, u64(INT64_MAX)),
      gguf_spec::pair("i64", i64_t, number<int64_t>(INT64_MIN)),
      gguf_spec::pair("f32", f32_t, number(1.5f)),
      gguf_spec::pair("f64", f64_t, number(-2.25)),
      gguf_spec::pair("bool", bool_t, number<uint8_t>(1)),
      gguf_spec::pair("string", string_t, gguf_spec::string(std::string("a\0\xff", 3))),
      gguf_spec::array("ints", i16_t, 2, number<int16_t>(-1) + number<int16_t>(7)),
      gguf_spec::array("bools", bool_t, 3, std::string("\1\0\1", 3)),
      gguf_spec::array("floats", f32_t, 1, number(0.5f)),
      gguf_spec::array("none", string_t, 0, ""),
  };
  const gguf_metadata m = parse(spec.bytes()).metadata;
  CHECK_EQ(m.values().size(), spec.pairs.size());
  CHECK_EQ(m.values()[0].key, "u8");  // file order
  CHECK_EQ(m.integer("u8"), 255);
  CHECK_EQ(m.integer("i8"), -128);
  CHECK_EQ(m.integer("u16"), 65535);
  CHECK_EQ(m.integer("i16"), -2);
  CHECK_EQ(m.integer("u32"), 4294967295);
  CHECK_EQ(m.integer("i32"), -3);
  CHECK_EQ(m.integer("u64"), INT64_MAX);
  CHECK_EQ(m.integer("i64"), INT64_MIN);
  CHECK_EQ(m.number("f32", 0), 1.5);
  CHECK_EQ(m.number("f64", 0), -2.25);
  CHECK_EQ(m.number("i32", 0), -3.0);
  CHECK(m.boolean("bool", false));
  CHECK_EQ(m.string("string", ""), std::string("a\0\xff", 3));
  CHECK(std::get<std::vector<int64_t>>(m.find("ints")->data) == (std::vector<int64_t>{-1, 7}));
  CHECK(std::get<std::vector<bool>>(m.find("bools")->data) == (std::vector<bool>{true, false, true}));
  CHECK_EQ(m.find("bools")->length(), 3u);
  CHECK_EQ(m.find("none")->length(), 0u);
  CHECK_EQ(m.number("floats", 0), 0.5);  // a list of one is a scalar
  CHECK(!m.find("absent") && !m.find(""));
}

TEST(gguf_metadata_defaults_and_wrong_types) {
  gguf_spec spec = good_spec();
  spec.pairs.push_back(gguf_spec::pair("nan", f32_t, number(std::numeric_limits<float>::quiet_NaN())));
  spec.pairs.push_back(gguf_spec::array("pair", u32_t, 2, u32(1) + u32(2)));
  const gguf_metadata m = parse(spec.bytes()).metadata;
  CHECK_EQ(m.integer("absent", -5), -5);
  CHECK_EQ(m.number("absent", 0.5), 0.5);
  CHECK(m.boolean("absent", true));
  CHECK_EQ(m.string("absent", "other"), "other");
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "test.file: the metadata key 'absent' is missing", m.integer("absent"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'general.architecture' must be an integer", m.integer("general.architecture"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'llama.block_count' must be a string", m.string("llama.block_count", ""));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'llama.block_count' must be true or false", m.boolean("llama.block_count", true));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'general.architecture' must be a number", m.number("general.architecture", 1));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'pair' must be an integer, not a list of 2", m.integer("pair", 1));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "'nan' is nan, not a finite number", m.number("nan", 1));
}

TEST(gguf_alignment_is_read_from_the_file) {
  for (size_t alignment : {1u, 8u, 64u, 4096u}) {
    gguf_spec spec;
    spec.pairs = {gguf_spec::pair("general.alignment", u32_t, u32(static_cast<uint32_t>(alignment)))};
    spec.tensors = {gguf_spec::tensor("a", {alignment}, ggml_i8, 0), gguf_spec::tensor("b", {2}, ggml_i8, alignment)};
    spec.alignment = alignment;
    spec.data = std::string(alignment, 'a') + "bb";
    file_in_memory file(spec.bytes());
    CHECK_EQ(*parse_gguf(*file).tensors[1].data.as<char>(), 'b');
  }
}

TEST(gguf_vocabularies_have_no_tensors) {
  gguf_spec spec = good_spec();
  spec.tensors.clear();
  spec.data.clear();
  spec.alignment = 0;  // nor padding
  CHECK(parse(spec.bytes()).tensors.empty());
}

TEST(gguf_space_between_tensors_is_legal) {
  gguf_spec spec = good_spec();
  spec.tensors[2] = gguf_spec::tensor("vector", {5}, ggml_i8, 256);
  spec.data = counting(300);
  CHECK_EQ(parse(spec.bytes()).tensors.size(), 3u);
}

struct broken {
  const char* name;
  void (*change)(gguf_spec&);
  const char* message;
  ft_status status = FT_ERROR_CHECKPOINT;
};

void check_all(const std::vector<broken>& cases) {
  for (const broken& c : cases) {
    gguf_spec spec = good_spec();
    c.change(spec);
    try {
      parse(spec.bytes());
    } catch (const error& e) {
      const std::string message = e.what();
      CHECK_MSG(e.code() == c.status, c.name, ": ", ft_status_name(e.code()), ": ", message);
      CHECK_MSG(message.find("test.file: ") == 0, c.name, ": ", message);
      CHECK_MSG(message.find(c.message) != std::string::npos, c.name, ": ", message);
      continue;
    }
    CHECK_MSG(false, c.name, " was accepted");
  }
}

TEST(gguf_broken_headers) {
  check_all({
      {"magic", [](gguf_spec& s) { s.magic = "GGML"; }, "is no GGUF file: it does not begin with 'GGUF'"},
      {"version 1", [](gguf_spec& s) { s.version = 1; }, "version 1 is not supported; 2 and 3 are",
       FT_ERROR_UNSUPPORTED},
      {"version 4", [](gguf_spec& s) { s.version = 4; }, "version 4 is not supported", FT_ERROR_UNSUPPORTED},
      {"version 0", [](gguf_spec& s) { s.version = 0; }, "version 0 is not supported", FT_ERROR_UNSUPPORTED},
      {"big-endian", [](gguf_spec& s) { s.version = 0x03000000; }, "a big-endian file is not supported",
       FT_ERROR_UNSUPPORTED},
      {"too many pairs", [](gguf_spec& s) { s.more_pairs = 1'000'000; },
       "GGUF header: claims 1000003 metadata entries, which do not fit the"},
      {"pairs without end", [](gguf_spec& s) { s.more_pairs = -4; }, "claims 18446744073709551615 metadata entries"},
      {"one pair too many", [](gguf_spec& s) { s.more_pairs = 1; }, "tensor entry 0: takes 562949953421312 bytes"},
      {"one pair too few", [](gguf_spec& s) { s.more_pairs = -1; }, "tensor 'tokenizer.ggml.tokens': has 9 axes"},
      {"too many tensors", [](gguf_spec& s) { s.more_tensors = INT64_MAX - 3; }, "claims 9223372036854775807 tensors"},
      {"one tensor too many", [](gguf_spec& s) { s.more_tensors = 1; }, "tensor entry 3: its name is empty"},
      {"a part of several",
       [](gguf_spec& s) { s.pairs.push_back(gguf_spec::pair("split.count", u16_t, number<uint16_t>(3))); },
       "is one of 3 parts of a split model", FT_ERROR_UNSUPPORTED},
      {"no data",
       [](gguf_spec& s) {
         s.data.clear();
         s.alignment = 0;
       },
       "is truncated: it ends before its tensors' data"},
  });
}

TEST(gguf_broken_metadata) {
  check_all({
      {"a key twice", [](gguf_spec& s) { s.pairs.push_back(s.pairs[1]); },
       "the metadata key 'llama.block_count' appears twice"},
      {"an empty key", [](gguf_spec& s) { s.pairs[1] = gguf_spec::pair("", u32_t, u32(1)); },
       "metadata entry 1: its key is empty"},
      {"a key of other bytes", [](gguf_spec& s) { s.pairs[1] = gguf_spec::pair("k\xff", u32_t, u32(1)); },
       "metadata key 'k\\xff': is no UTF-8 text"},
      {"a key without end", [](gguf_spec& s) { s.pairs[1] = u64(UINT64_MAX); },
       "metadata entry 1: takes 18446744073709551615 bytes"},
      {"a string without end", [](gguf_spec& s) { s.pairs[1] = gguf_spec::pair("k", string_t, u64(1ull << 40)); },
       "metadata key 'k': takes 1099511627776 bytes"},
      {"an unknown type", [](gguf_spec& s) { s.pairs[1] = gguf_spec::pair("k", 13, ""); },
       "metadata key 'k': has the unknown value type 13"},
      {"an array of unknown type", [](gguf_spec& s) { s.pairs[1] = gguf_spec::array("k", 99, 1, ""); },
       "metadata key 'k': has the unknown value type 99"},
      {"an array of arrays", [](gguf_spec& s) { s.pairs[1] = gguf_spec::array("k", array_t, 1, u32(u8_t) + u64(0)); },
       "metadata key 'k': an array of arrays is not supported", FT_ERROR_UNSUPPORTED},
      {"an array without end", [](gguf_spec& s) { s.pairs[1] = gguf_spec::array("k", u8_t, UINT64_MAX, ""); },
       "metadata key 'k': claims 18446744073709551615 values"},
      {"an array whose size overflows",
       [](gguf_spec& s) { s.pairs[1] = gguf_spec::array("k", u64_t, (1ull << 61) + 1, u64(1)); },
       "metadata key 'k': claims 2305843009213693953 values"},
      {"strings without end", [](gguf_spec& s) { s.pairs[1] = gguf_spec::array("k", string_t, 1ull << 32, ""); },
       "metadata key 'k': claims 4294967296 values"},
      {"beyond 63 bits", [](gguf_spec& s) { s.pairs[1] = gguf_spec::pair("k", u64_t, u64(1ull << 63)); },
       "metadata key 'k': the value 9223372036854775808 is beyond 63 bits"},
      {"neither true nor false", [](gguf_spec& s) { s.pairs[1] = gguf_spec::pair("k", bool_t, number<uint8_t>(2)); },
       "metadata key 'k': a truth value is 2"},
      {"alignment 0", [](gguf_spec& s) { s.pairs.push_back(gguf_spec::pair("general.alignment", u32_t, u32(0))); },
       "'general.alignment' is 0, no power of two"},
      {"alignment 48", [](gguf_spec& s) { s.pairs.push_back(gguf_spec::pair("general.alignment", u32_t, u32(48))); },
       "'general.alignment' is 48, no power of two"},
      {"alignment no number",
       [](gguf_spec& s) { s.pairs.push_back(gguf_spec::pair("general.alignment", f32_t, u32(0))); },
       "'general.alignment' must be an integer"},
      {"alignment beyond the file",
       [](gguf_spec& s) { s.pairs.push_back(gguf_spec::pair("general.alignment", u64_t, u64(1ull << 62))); },
       "tensor 'blocks': its offset 32 is no multiple of the alignment 4611686018427387904"},
  });
}

TEST(gguf_broken_tensors) {
  check_all({
      {"an empty name", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("", {4}, ggml_f32, 32); },
       "tensor entry 1: its name is empty"},
      {"a name of other bytes", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t\x80", {4}, ggml_f32, 32); },
       "tensor 't\\x80': its name is no UTF-8 text"},
      {"a name without end", [](gguf_spec& s) { s.tensors[1] = u64(1ull << 63); },
       "tensor entry 1: takes 9223372036854775808 bytes"},
      {"five axes", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {1, 1, 1, 1, 1}, ggml_f32, 32); },
       "tensor 't': has 5 axes; at most 4"},
      {"a type unknown", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {4}, 1000, 32); },
       "tensor 't': has the unknown ggml type 1000"},
      {"a type removed", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {4}, 4, 32); },
       "tensor 't': has the unknown ggml type 4"},
      {"a type unsupported", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {256}, 10, 32); },
       "tensor 't': the ggml type Q2_K is not supported", FT_ERROR_UNSUPPORTED},
      {"half a block", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {48, 2}, ggml_q4_0, 32); },
       "tensor 't': its rows are no whole number of q4_0 blocks of 32"},
      {"a scalar in blocks", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {}, ggml_q6_k, 32); },
       "tensor 't': its rows are no whole number of q6_k blocks of 256"},
      {"elements that overflow",
       [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {1ull << 32, 1ull << 32}, ggml_f32, 32); },
       "tensor 't': its shape is too large"},
      {"bytes that overflow", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {1ull << 62}, ggml_f32, 32); },
       "tensor 't': its shape is too large"},
      {"strides that overflow",
       [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {1ull << 40, 1ull << 40, 0}, ggml_f32, 32); },
       "tensor 't': its shape is too large"},
      {"an unaligned offset", [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {4}, ggml_f32, 33); },
       "tensor 't': its offset 33 is no multiple of the alignment 32"},
      {"an offset past the file",
       [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {4}, ggml_f32, 1ull << 40); },
       "tensor 't': its 16 bytes at offset 1099511627776 reach beyond the 133 bytes of data"},
      {"an offset that wraps round",
       [](gguf_spec& s) { s.tensors[1] = gguf_spec::tensor("t", {8}, ggml_f32, UINT64_MAX - 31); },
       "tensor 't': its 32 bytes at offset 18446744073709551584 reach beyond"},
      {"an end past the file", [](gguf_spec& s) { s.tensors[2] = gguf_spec::tensor("t", {6}, ggml_i8, 128); },
       "tensor 't': its 6 bytes at offset 128 reach beyond the 133 bytes of data"},
      {"far too large", [](gguf_spec& s) { s.tensors[2] = gguf_spec::tensor("t", {1ull << 60}, ggml_i8, 128); },
       "tensor 't': its 1152921504606846976 bytes at offset 128 reach beyond"},
      {"the same place", [](gguf_spec& s) { s.tensors[2] = gguf_spec::tensor("t", {32}, ggml_i8, 32); },
       "its data overlap those of"},
      {"an overlap", [](gguf_spec& s) { s.tensors[2] = gguf_spec::tensor("t", {5}, ggml_i8, 96); },
       "tensor 't': its data overlap those of 'blocks'"},
      {"an overlap across one", [](gguf_spec& s) { s.tensors[0] = gguf_spec::tensor("t", {33}, ggml_i8, 0); },
       "tensor 'blocks': its data overlap those of 't'"},
  });
}

TEST(gguf_every_prefix_is_refused) {
  test::check_prefixes(good_spec().bytes(), [](const file_in_memory& file) { parse_gguf(*file); });
}

TEST(gguf_any_byte_may_change) {
  test::check_flips(good_spec().bytes(), [](const file_in_memory& file) { parse_gguf(*file); });
}

}  // namespace
}  // namespace ft::io
