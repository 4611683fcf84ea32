// Files of torch.save: archives, pickles and the tensors in them; every lie about one refused, nothing executed.
#include "io/torch/torch_file.h"

#include <nlohmann/json.hpp>
#include <string>

#include "archive.h"
#include "io/torch/pickle.h"
#include "io/torch/zip.h"

namespace ft::io {
namespace {

using namespace test;
namespace p = test::pickle;

torch_contents read(const std::string& bytes) { return read_torch_file(*file_in_memory(bytes)); }
torch_contents read(const std::string& object, const std::vector<std::string>& storages) {
  return read(torch_archive(object, storages).bytes());
}

void check_refused(const std::string& text, const std::string& bytes, ft_status status = FT_ERROR_CHECKPOINT) {
  CHECK_ERROR(status, text, read(bytes));
  CHECK_ERROR(status, "test.file: ", read(bytes));
}

// Of the object that refers to one storage "0" of `bytes` bytes.
void check_object_refused(const std::string& text, const std::string& object, size_t bytes = 24,
                          ft_status status = FT_ERROR_CHECKPOINT) {
  check_refused(text, torch_archive(object, {counting(bytes)}).bytes(), status);
}

const std::string six_floats = p::storage("FloatStorage", "0", 6);

TEST(torch_tensors_are_views_with_strides) {
  const std::string object = p::dictionary(
      p::text("model") +
      p::dictionary(p::text("w") + p::tensor(six_floats, 0, {2, 3}, {3, 1}) + p::text("t") +
                    p::tensor(six_floats, 0, {3, 2}, {1, 3}) + p::text("row") + p::tensor(six_floats, 3, {3}, {1}) +
                    p::text("half") + p::tensor(p::storage("HalfStorage", "1", 2), 1, {}, {}) + p::integer(7) +
                    p::tensor(p::storage("LongStorage", "1", 0), 0, {0, 4}, {4, 1})));
  const std::string bytes = torch_archive(object, {counting(24), counting(4)}).bytes();
  file_in_memory file(bytes);
  const torch_contents contents = read_torch_file(*file);
  CHECK_EQ(contents.found.tensors.size(), 5u);
  const auto* data = (*file)->data() + bytes.find(counting(24));
  const stored_tensor &w = contents.found.tensors[0], &t = contents.found.tensors[1], &row = contents.found.tensors[2];
  CHECK(w.name == "model.w" && w.data.data == data && w.data.contiguous() && w.data.dim(1) == 3);
  CHECK(t.name == "model.t" && t.data.data == data && !t.data.contiguous() && t.data.stride[1] == 3);
  CHECK(row.name == "model.row" && row.data.data == data + 12 && row.data.type == dtype::f32);
  CHECK(contents.found.tensors[3].data.type == dtype::f16 && contents.found.tensors[3].data.rank == 0);
  CHECK_EQ(*static_cast<const char*>(contents.found.tensors[3].data.data), 3);
  CHECK(contents.found.tensors[4].name == "model.7" && contents.found.tensors[4].data.size() == 0);
}

TEST(torch_scalars_and_namespaces) {
  const std::string members = p::dictionary(p::text("num_layers") + p::integer(2) + p::text("eps") + "G\x3f\xf8" +
                                            std::string(6, '\0') + p::text("dtype") + p::global("torch", "float16"));
  const std::string object =
      p::dictionary(p::text("args") + p::global("argparse", "Namespace") + ")\x81" + members + "b" +
                    p::text("checkpoint_version") + "K\x03" + p::text("tied") + "\x88" + p::text("run") +
                    p::global("os", "system") + p::tuple(p::text("echo")) + "R" + p::text("none") + "N");
  const torch_contents contents = read(object, {});
  CHECK(contents.found.tensors.empty());
  const json_reader scalars(*contents.scalars, "x");
  CHECK_EQ(scalars.object("args")->integer("num_layers"), 2);
  CHECK_EQ(scalars.object("args")->number("eps"), 1.5);
  CHECK_EQ(scalars.integer("checkpoint_version"), 3);
  CHECK(scalars.boolean("tied", false));
  CHECK(!scalars.has("run") && !scalars.has("none") && !scalars.object("args")->has("dtype"));
}

TEST(torch_parameters_and_foreign_tensors) {
  const std::string parameter = p::global("torch._utils", "_rebuild_parameter") +
                                p::tuple(p::tensor(six_floats, 0, {6}, {1}) + "\x88" + "N") + "R";
  const std::string complex = p::tensor(p::storage("ComplexFloatStorage", "0", 3), 0, {3}, {1});
  const std::string deep = p::tensor(six_floats, 0, {1, 1, 1, 1, 6}, {6, 6, 6, 6, 1});
  const std::string object = p::dictionary(p::text("p") + parameter + p::text("c") + complex + p::text("d") + deep +
                                           p::text("l") + "](" + parameter + "e");
  const torch_contents contents = read(object, {counting(24)});
  CHECK_EQ(contents.found.tensors.size(), 1u);
  CHECK_EQ(contents.found.tensors[0].name, "p");
  const auto& foreign = contents.found.foreign;
  CHECK_EQ(foreign.size(), 2u);
  CHECK_EQ(foreign[0].name, "c");
  CHECK_EQ(foreign[0].fault, "its dtype ComplexFloatStorage is not supported");
  CHECK_EQ(foreign[1].fault, "it has 5 axes; at most 4 are supported");
}

std::string one(const std::string& tensor) { return p::dictionary(p::text("t") + tensor); }

TEST(torch_lying_tensors) {
  check_object_refused("tensor 't': reaches element 6 of a storage that has 6",
                       one(p::tensor(six_floats, 1, {2, 3}, {3, 1})));
  check_object_refused("tensor 't': reaches element", one(p::tensor(six_floats, 6, {1}, {1})));
  check_object_refused("must have 7 elements of 4 bytes, but has 24 bytes",
                       one(p::tensor(p::storage("FloatStorage", "0", 7), 0, {1}, {1})));
  check_object_refused("its storage '9' is not in the archive",
                       one(p::tensor(p::storage("FloatStorage", "9", 1), 0, {1}, {1})));
  check_object_refused("has 2 axes, but 1 strides", one(p::tensor(six_floats, 0, {2, 3}, {1})));
  check_object_refused("its offset is no whole number", one(p::tensor(six_floats, -1, {2}, {1})));
  check_object_refused("its stride is no whole number", one(p::tensor(six_floats, 3, {2}, {-1})));
  check_object_refused("its size is no whole number", one(p::tensor(six_floats, 0, {INT64_MIN}, {1})));
  check_object_refused("its size and strides are too large",
                       one(p::tensor(six_floats, 0, {int64_t{1} << 40}, {int64_t{1} << 40})));
  check_object_refused("its shape is too large",
                       one(p::tensor(six_floats, 0, {int64_t{1} << 40, int64_t{1} << 40}, {0, 0})));
  check_object_refused("its storage's length is no whole number",
                       one(p::tensor(p::storage("FloatStorage", "0", -1), 0, {1}, {1})));
  check_object_refused("has no storage", one(p::tensor("N", 0, {1}, {1})));
  check_object_refused("not described as torch does", one(p::tensor("NQ", 0, {1}, {1})));
  check_object_refused("is rebuilt from 0 values", one(p::global("torch._utils", "_rebuild_tensor_v2") + ")R"));
  check_object_refused("is a parameter of nothing", one(p::global("torch._utils", "_rebuild_parameter") + ")R"));
  check_object_refused("holds no dictionary of tensors", "K\x01");
}

TEST(torch_circles_depth_and_repetition) {
  // A dictionary that holds itself, and dictionaries each of which holds the next twice.
  check_object_refused("nested deeper than 32", "}q\1(" + p::text("d") + "h\1u");
  std::string doubled = "}q" + std::string(1, '\0');
  for (char level = 1; level < 30; ++level) {
    const std::string before = std::string("h") + static_cast<char>(level - 1);
    doubled += std::string("0") + p::dictionary("K\1" + before + "K\2" + before) + "q" + level;
  }
  check_object_refused("holds more than 1048576 values", doubled);
  std::string nested = std::string(40'000, '}');
  for (int i = 0; i < 39'999; ++i) nested += "K\1";
  check_object_refused("the pickle is damaged", nested + "s");
}

TEST(pickle_faults) {
  const std::pair<std::string, const char*> damaged[] = {
      {"", "it ends too early"},
      {"\x80\x02", "it ends too early"},
      {".", "it takes a value from an empty stack"},
      {"X\5", "it ends too early"},
      {"X" + u32(UINT32_MAX), "it ends too early"},
      {"\x8d" + u64(UINT64_MAX), "it ends too early"},
      {"h\1.", "it recalls value 1, which it never kept"},
      {"t.", "it looks for a mark that is not there"},
      {"(R.", "it takes a value from an empty stack"},
      {"K\1(R", "it takes a value from an empty stack"},
      {"K\1K\1a.", "it fills what is no list"},
      {"]K\1K\1s.", "it fills what is no dictionary"},
      {"}(K\1u.", "a dictionary's last key has no value"},
      {"(K\1d.", "a dictionary's last key has no value"},
      {"K\1Nb.", "it sets the state of what is no object"},
      {"cos", "a line does not end"},
      {"K\1K\1\x93.", "a global's name is no text"},
  };
  for (const auto& [bytes, message] : damaged) {
    CHECK_ERROR(FT_ERROR_CHECKPOINT, message, read_pickle(bytes, "f"));
    CHECK_ERROR(FT_ERROR_CHECKPOINT, "f: the pickle is damaged at byte ", read_pickle(bytes, "f"));
  }
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "pickle protocol 1 ", read_pickle("\x80\x01N.", "f"));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "the opcode 'I', which torch.save does not write", read_pickle("I12\n.", "f"));
}

TEST(pickle_values) {
  struct value {  // without the views into the pickle
    pickle_value::kind type;
    int64_t integer;
    std::string text;
    std::vector<pickle_value::reference> items;
  };
  const auto whole = [](const std::string& bytes) {
    const pickle graph = read_pickle(bytes, "f");
    const pickle_value& root = graph[graph.root];
    return value{root.type, root.integer, std::string(root.text), root.items};
  };
  CHECK_EQ(whole("J" + u32(static_cast<uint32_t>(-7)) + ".").integer, -7);
  CHECK_EQ(whole("M\1\2.").integer, 513);
  CHECK_EQ(whole(std::string("\x8a\x02\x00\x80.", 5)).integer, -32768);
  CHECK_EQ(whole(std::string("\x8a\x00.", 3)).integer, 0);
  CHECK(whole("\x8a\x09" + counting(9) + ".").type == pickle_value::kind::bytes);  // too long to be a size
  CHECK_EQ(whole("U\3abc.").text, "abc");
  CHECK_EQ(whole("K\1K\2K\3\x87.").items.size(), 3u);
  CHECK(whole("N\x94K\1" + std::string("0h\0.", 4)).type == pickle_value::kind::none);
  CHECK_EQ(whole("](K\1K\2e.").items.size(), 2u);
  CHECK(whole("X\2" + std::string("\0\0\0ab", 5) + "q\1" + "X\1" + std::string("\0\0\0", 3) + "c\x93.").text == "ab c");
}

TEST(zip_reads_what_torch_writes_and_zip64) {
  zip_spec spec;
  spec.entries = {{.name = "a", .data = "hello", .padding = "12345"}, {.name = "b/c", .data = "", .zip64 = true}};
  spec.entries.push_back({.name = "d", .data = "world", .zip64 = true});
  spec.comment = "a comment with PK\5\6 in it";
  for (bool zip64_end : {false, true}) {
    spec.zip64_end = zip64_end;
    const std::string bytes = spec.bytes();
    file_in_memory file(bytes);
    const auto entries = read_zip(**file);
    CHECK_EQ(entries.size(), 3u);
    CHECK_EQ(bytes.substr(entries[0].offset, entries[0].size), "hello");
    CHECK_EQ(entries[1].name, "b/c");
    CHECK_EQ(bytes.substr(entries[2].offset, entries[2].size), "world");
  }
}

void check_zip(const char* message, const zip_spec& spec, ft_status status = FT_ERROR_CHECKPOINT) {
  file_in_memory file(spec.bytes());
  CHECK_ERROR(status, message, read_zip(**file));
}

TEST(zip_lies) {
  const zip_spec::entry good{.name = "a", .data = "hello"};
  const auto with = [&](auto&& change) {
    zip_spec spec;
    spec.entries = {good, {.name = "b", .data = "world"}};
    change(spec);
    return spec;
  };
  check_zip("entry 'a': is compressed", with([](zip_spec& s) { s.entries[0].method = 8; }), FT_ERROR_UNSUPPORTED);
  check_zip("entry 'b': is encrypted", with([](zip_spec& s) { s.entries[1].flags = 1; }), FT_ERROR_UNSUPPORTED);
  check_zip("the entry 'a' is there twice", with([](zip_spec& s) { s.entries[1].name = "a"; }));
  check_zip("do not lie before the directory", with([](zip_spec& s) { s.entries[1].more_bytes = 1; }));
  check_zip("has no local header at byte", with([](zip_spec& s) { s.entries[1].more_offset = 1; }));
  check_zip("has no local header at byte", with([](zip_spec& s) {
              s.entries[1].zip64 = true;
              s.entries[1].more_offset = INT64_MAX - 100;
            }));
  check_zip("do not lie before the directory", with([](zip_spec& s) {
              s.entries[1].zip64 = true;
              s.entries[1].more_bytes = INT64_MAX - 100;
            }));
  check_zip("cannot hold 1002 entries", with([](zip_spec& s) { s.more_entries = 1000; }));
  check_zip("does not lie before its end record", with([](zip_spec& s) { s.more_directory = 1; }));
  check_zip("its directory is cut at byte", with([](zip_spec& s) { s.more_directory = -1; }));
  check_zip("is no UTF-8 text", with([](zip_spec& s) { s.entries[1].name = "\xff"; }));
  check_zip("cannot hold", with([](zip_spec& s) {
              s.zip64_end = true;
              s.more_entries = INT64_MAX - 2;
            }));
}

TEST(torch_files_that_are_none) {
  check_refused("is no file of torch.save", "hello");
  check_refused("is no file of torch.save", "");
  check_refused("format of torch before 1.6",
                std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15), FT_ERROR_UNSUPPORTED);
  zip_spec spec;
  spec.entries = {{.name = "x", .data = ""}};
  check_refused("the archive has no data.pkl", spec.bytes());
  spec = torch_archive("}", {});
  spec.entries.push_back({.name = "archive/byteorder", .data = "big"});
  check_refused("its tensors are in big-endian order", spec.bytes(), FT_ERROR_UNSUPPORTED);
}

TEST(torch_every_cut_and_flip) {
  zip_spec spec = torch_archive(one(p::tensor(six_floats, 0, {2, 3}, {3, 1})), {counting(24)});
  for (bool zip64 : {false, true}) {
    spec.zip64_end = zip64;
    for (zip_spec::entry& e : spec.entries) e.zip64 = zip64;
    const auto parse = [](const file_in_memory& file) {
      for (const stored_tensor& t : read_torch_file(*file).found.tensors)
        for (int64_t i = 0, end = t.data.rank == 1 ? t.data.dim(0) : 0; i < end; ++i)
          static_cast<void>(*(static_cast<const volatile char*>(t.data.data) + 4 * i * t.data.stride[0]));
    };
    check_prefixes(spec.bytes(), parse);
    check_flips(spec.bytes(), parse);
  }
}

}  // namespace
}  // namespace ft::io
