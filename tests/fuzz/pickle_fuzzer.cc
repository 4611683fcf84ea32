// Any bytes as a pickle, beside a storage: an archive is made around them, so that mutations reach the tensors' checks.
#include <nlohmann/json.hpp>
#include <string>

#include "fuzz.h"
#include "io/archive.h"
#include "io/torch/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ft;
  test::zip_spec archive;
  archive.entries.push_back({.name = "a/data.pkl", .data = std::string(reinterpret_cast<const char*>(data), size)});
  archive.entries.push_back({.name = "a/data/0", .data = std::string(64, 'x')});
  const std::string bytes = archive.bytes();
  fuzz::guarded([&] {
    const auto file = io::mapped_file::wrap(bytes.data(), bytes.size(), "fuzz");
    fuzz::touch_strided(io::read_torch_file(file).found.tensors);
  });
  return 0;
}
