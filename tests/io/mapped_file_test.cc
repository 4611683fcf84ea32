// Mapping files, and the smaller helpers beneath both formats.
#include "io/files/mapped_file.h"

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "check.h"
#include "io/stored_tensor.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

TEST(mapped_file_shows_the_bytes) {
  const auto path = (std::filesystem::temp_directory_path() / ("ft_mapped_" + std::to_string(::getpid()))).string();
  std::ofstream(path) << "some bytes";
  const auto file = mapped_file::open(path);
  std::filesystem::remove(path);  // the mapping lives on
  CHECK_EQ(file->text(), "some bytes");
  CHECK_EQ(file->path(), path);
  std::ofstream{path};
  const auto empty = mapped_file::open(path);
  std::filesystem::remove(path);
  CHECK_EQ(empty->size(), 0u);
  CHECK_EQ(empty->text(), "");
}

TEST(mapped_file_errors_name_path_and_reason) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  CHECK_ERROR(FT_ERROR_CHECKPOINT, folder + ": is no regular file", mapped_file::open(folder));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "/absent/file: cannot be opened: ", mapped_file::open("/absent/file"));
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "cannot hold a zero byte", mapped_file::open(std::string("/tmp\0/x", 7)));
}

TEST(printable_escapes_and_cuts) {
  CHECK_EQ(printable("model.layers.0"), "model.layers.0");
  CHECK_EQ(printable(std::string("a\0\n\xff~\x7f", 6)), "a\\x00\\x0a\\xff~\\x7f");
  CHECK_EQ(printable("abcdef", 3), "abc...");
  CHECK_EQ(printable(""), "");
}

TEST(names_are_utf8_without_zero_bytes) {
  for (const char* good : {"", "a.b", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "x\xc3\xa9y"})
    CHECK_MSG(is_name(good), printable(good));
  for (const char* bad : {"\x80", "\xc1\xbf", "\xc2", "\xc2x", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe2\x82",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xf0\x90\x80"})
    CHECK_MSG(!is_name(bad), printable(bad));
  CHECK(!is_name(std::string_view("a\0b", 3)));
}

std::optional<uint64_t> bytes(dtype type, std::initializer_list<uint64_t> shape) {
  return stored_bytes(type, std::span<const uint64_t>(shape.begin(), shape.size()));
}

TEST(stored_bytes_multiplies_safely) {
  CHECK(bytes(dtype::f32, {}) == 4u);
  CHECK(bytes(dtype::f32, {2, 3}) == 24u);
  CHECK(bytes(dtype::f32, {0, 3}) == 0u);
  CHECK(bytes(dtype::q4_0, {2, 64}) == 72u);
  CHECK(!bytes(dtype::q4_0, {64, 2}));  // rows of 2
  CHECK(!bytes(dtype::q4_0, {}));
  CHECK(bytes(dtype::u8, {INT64_MAX}) == uint64_t{INT64_MAX});
  CHECK(!bytes(dtype::u8, {uint64_t{1} << 63}));
  CHECK(!bytes(dtype::u8, {UINT64_MAX, UINT64_MAX}));
  CHECK(!bytes(dtype::f32, {uint64_t{1} << 61}));
  CHECK(!bytes(dtype::u8, {0, uint64_t{1} << 32, uint64_t{1} << 32}));  // its strides would overflow
  CHECK(!bytes(dtype::f64, {0, UINT64_MAX}));
}

}  // namespace
}  // namespace ft::io
