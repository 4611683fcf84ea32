// The file of tuned algorithms: what is written is read, and what cannot be used is ignored and said.
#include "backends/cuda/gemm/algorithm_file.h"

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
