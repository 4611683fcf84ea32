// Any bytes as a file of torch.save.
#include <nlohmann/json.hpp>

#include "fuzz.h"
#include "io/torch/torch_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ft;
  fuzz::guarded([&] {
    const auto file = io::mapped_file::wrap(data, size, "fuzz");
    fuzz::touch_strided(io::read_torch_file(file).found.tensors);
  });
  return 0;
}
