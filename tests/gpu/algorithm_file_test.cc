// The file of tuned algorithms: what is written is read, and what cannot be used is ignored and said.
#include "backends/cuda/gemm/cublas_lt/algorithm_file.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "check.h"

using ft::cuda::algorithm;
using ft::cuda::algorithm_file;

namespace {

struct cache_folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / ("ft-tuned-" + std::to_string(getpid()));
  cache_folder() { setenv("FT_CACHE_DIR", path.c_str(), 1); }
  ~cache_folder() {
    std::filesystem::remove_all(path);
    unsetenv("FT_CACHE_DIR");
  }
};

void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

TEST(tuned_algorithms_are_kept) {
  const cache_folder folder;
  algorithm drawn;
  for (size_t i = 0; i < drawn.size(); ++i) drawn[i] = static_cast<uint8_t>(i * 37 + 11);
  algorithm_file first("Some GPU, cuBLASLt 1");
  CHECK(first.problem().empty());
  CHECK(first.find("a range") == nullptr);
  first.put("a range", drawn);
  first.save();

  const algorithm_file again("Some GPU, cuBLASLt 1");
  CHECK(again.problem().empty());
  CHECK(again.find("a range") && *again.find("a range") == drawn);
  CHECK(again.find("another") == nullptr);
  CHECK(algorithm_file("Some GPU, cuBLASLt 2").find("a range") == nullptr);  // another file
}

TEST(damaged_and_foreign_files_of_algorithms_are_ignored) {
  const cache_folder folder;
  algorithm_file good("Some GPU, cuBLASLt 1");
  good.put("a range", algorithm{});
  good.save();
  const auto refused = [](const char* why) {
    const algorithm_file read("Some GPU, cuBLASLt 1");
    CHECK(read.problem().find(why) != std::string::npos);
    CHECK(read.find("a range") == nullptr);
  };
  std::ofstream(good.path(), std::ios::app) << "a range = 00\n";
  refused("line 4 is damaged");
  write(good.path(), "libft gemm algorithms 1\nAnother GPU\n");
  refused("it was made for Another GPU");
  write(good.path(),
        "\x7f"
        "ELF");
  refused("no file of tuned algorithms");
  write(good.path(), "");
  refused("no file of tuned algorithms");
}

TEST(a_cache_that_cannot_be_written_says_how_to_mend_it) {
  const cache_folder folder;
  std::filesystem::create_directories(folder.path);
  write(folder.path / "file", "");
  setenv("FT_CACHE_DIR", (folder.path / "file" / "below").c_str(), 1);  // root may write to any folder, but not to this
  algorithm_file tuned("Some GPU, cuBLASLt 1");
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "set FT_CACHE_DIR to a folder that is writable", tuned.save());

  setenv("FT_CACHE_DIR", folder.path.c_str(), 1);
  algorithm_file replaced("Some GPU, cuBLASLt 1");
  std::filesystem::create_directories(std::filesystem::path(replaced.path()) / "in the way");
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "set FT_CACHE_DIR to another folder", replaced.save());

  const std::string home = getenv("HOME") ? getenv("HOME") : "",
                    xdg = getenv("XDG_CACHE_HOME") ? getenv("XDG_CACHE_HOME") : "";
  for (const char* name : {"FT_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
  algorithm_file nowhere("Some GPU, cuBLASLt 1");
  if (!home.empty()) setenv("HOME", home.c_str(), 1);
  if (!xdg.empty()) setenv("XDG_CACHE_HOME", xdg.c_str(), 1);
  CHECK(nowhere.path().empty());
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "neither FT_CACHE_DIR", nowhere.save());
}
