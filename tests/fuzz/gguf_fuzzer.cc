// Any bytes as a GGUF file.
#include "fuzz.h"
#include "io/formats/gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ft;
  fuzz::guarded([&] {
    const auto file = io::mapped_file::wrap(data, size, "fuzz");
    fuzz::touch(io::parse_gguf(file).tensors);
  });
  return 0;
}
