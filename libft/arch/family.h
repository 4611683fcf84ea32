// The registry of model families: one line each in family.cc. A family is a config map, a weight table and a recipe.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <vector>

#include "arch/config/config.h"
#include "arch/network.h"
#include "arch/weights/weight_table.h"
#include "core/thread_pool.h"
#include "io/checkpoint.h"
#include "ops/backend.h"

namespace ft::arch {

// Called as weights are placed; throws to cancel.
using progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

// What weights take on a device, by the names of the formats that they lie in there.
struct placed_bytes {
  std::map<std::string_view, uint64_t> by_format;
  uint64_t total = 0;
};

struct build_options {
  backend& device;
  dtype compute = dtype::f32;   // f32, bf16, f16, or i8 (dynamic int8)
  bool keep_quantised = true;   // what the device computes on as it is stays so; else it is expanded into `compute`
  thread_pool* pool = nullptr;  // packs in parallel
  progress on_progress;
  memory* from = nullptr;            // what weights lie in; null: the device's own memory
  placed_bytes* measured = nullptr;  // what would be placed is added here; nothing is, and no weight is read
  io::rank_share share{};            // whose weights the match is of; the configuration is the whole model's

  memory& place() const { return from ? *from : device.device_memory(); }
};

struct family {
  std::string_view name;
  std::vector<std::string_view> hugging_face;  // config.json "model_type" values
  std::vector<std::string_view> gguf;          // "general.architecture" values
  std::vector<std::string_view> sections{};    // of FasterTransformer's config.ini, where it reads such folders
  bool megatron = false;                       // whether it reads Megatron-LM's checkpoints
  // Of every format but libft's own. Sources of weights that ranks split are the names without ".<rank>".
  model_config (*config)(const io::checkpoint&);
  weight_table (*weights)(const model_config&, io::checkpoint_format);
  std::unique_ptr<network> (*build)(const model_config&, const weight_match&, const build_options&);
};

const std::vector<family>& families();

// The family that reads this checkpoint. Throws ft::error (FT_ERROR_UNSUPPORTED) naming the model type and the
// ones supported.
const family& family_of(const io::checkpoint& source);

// By the registry's name, which a configuration holds.
const family& family_named(std::string_view name);

// The checkpoint's configuration, which may name another family (FasterTransformer runs OPT as a variant of GPT): its
// family's map of it or, in libft's own format, as it was kept.
model_config config_of(const io::checkpoint& source);

// The family's table, its sources those that this checkpoint may have: where ranks saved it, the pieces of each. Of one
// that was opened for a rank, the rank's share.
weight_table weights_of(const model_config& config, const io::checkpoint& source);

}  // namespace ft::arch
