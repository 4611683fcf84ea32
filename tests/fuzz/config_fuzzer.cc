// Any bytes as a model's configuration: config.json, or the metadata of a GGUF file when they begin as one does. Its
// family must make a configuration of it, and a weight table of that, or say what is wrong.
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "arch/family.h"
#include "fuzz.h"
#include "io/checkpoint.h"

namespace {

using namespace ft;

// Tensors whose presence or bytes the families look at before they judge shapes.
std::vector<io::stored_tensor> some_tensors() {
  static constexpr float zeros[8] = {};
  const auto file = io::mapped_file::wrap(zeros, sizeof zeros, "fuzz");
  std::vector<io::stored_tensor> tensors;
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "bert.pooler.dense.weight"})
    tensors.push_back({name, tensor(const_cast<float*>(zeros), dtype::f32, {4, 2}), file});
  return tensors;
}

std::shared_ptr<const io::checkpoint> checkpoint_of(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.substr(0, 4) == "GGUF")
    return io::checkpoint::from_parts("fuzz", io::parse_gguf(io::mapped_file::wrap(data, size, "fuzz")));
  return io::checkpoint::from_parts("fuzz", io::parse_json(text, "fuzz"), some_tensors());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::guarded([&] {
    const auto checkpoint = checkpoint_of(data, size);
    const arch::model_config config = arch::config_of(*checkpoint);
    config.to_json();
    // Tables grow with the number of layers; a few suffice to run every line that makes them.
    if (config.num_layers <= 64) arch::match(arch::weights_of(config, *checkpoint), *checkpoint);
  });
  return 0;
}
