#include "arch/family.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "arch/config/config_json.h"
#include "arch/families/families.h"
#include "arch/weights/weight_share.h"
#include "core/status.h"
#include "io/text/printable.h"

namespace ft::arch {

const std::vector<family>& families() {
  static const std::vector<family> all = {
      llama_family(), bert_family(),  gpt2_family(), gptj_family(), gpt_neox_family(),
      opt_family(),   bloom_family(), t5_family(),   bart_family(),
  };
  return all;
}

namespace {

// What a checkpoint says of its kind, and whether a family knows it.
struct kind_of_model {
  const char* key;   // what says so
  std::string name;  // the model type, architecture, section or family
};

std::vector<std::string_view> names_known_to(const family& f, io::checkpoint_format format) {
  switch (format) {
    case io::checkpoint_format::hugging_face:
      return f.hugging_face;
    case io::checkpoint_format::gguf:
      return f.gguf;
    case io::checkpoint_format::faster_transformer:
      return f.sections;
    case io::checkpoint_format::megatron_0:
    case io::checkpoint_format::megatron_1:
    case io::checkpoint_format::megatron:
      return f.megatron ? std::vector<std::string_view>{"GPT"} : std::vector<std::string_view>{};
    case io::checkpoint_format::manifest:
      return {f.name};
  }
  return {};
}

// A section that some family reads, else the first.
std::string section_of(const io::json_reader& config) {
  std::string found;
  for (const auto& [section, values] : config.value().items()) {
    if (found.empty()) found = section;
    for (const family& f : families())
      if (std::ranges::find(f.sections, section) != f.sections.end()) return section;
  }
  return found;
}

kind_of_model kind_of(const io::checkpoint& source) {
  switch (source.format()) {
    case io::checkpoint_format::hugging_face:
      return {"model_type", source.config().string("model_type", "")};
    case io::checkpoint_format::gguf:
      return {"general.architecture", source.metadata().string("general.architecture", "")};
    case io::checkpoint_format::faster_transformer:
      return {"the section", section_of(source.config())};
    case io::checkpoint_format::megatron_0:
    case io::checkpoint_format::megatron_1:
    case io::checkpoint_format::megatron:
      return {"the model", "GPT"};
    case io::checkpoint_format::manifest:
      return {"family", source.config().string("family", "")};
  }
  return {};
}

}  // namespace

const family& family_named(std::string_view name) {
  const auto found = std::ranges::find(families(), name, &family::name);
  if (found == families().end()) fail(FT_ERROR_INTERNAL, "there is no family ", name);
  return *found;
}

const family& family_of(const io::checkpoint& source) {
  const auto [key, type] = kind_of(source);
  std::string known;
  for (const family& f : families()) {
    for (std::string_view name : names_known_to(f, source.format())) {
      if (name == type) return f;
      known += cat(known.empty() ? "" : ", ", name);
    }
  }
  if (type.empty())
    fail(FT_ERROR_CHECKPOINT, source.source(), ": ", key, " is not given, so the kind of model is not known");
  fail(FT_ERROR_UNSUPPORTED, source.source(), ": ", key, " '", io::printable(type),
       "' is not supported; supported are ", known);
}

model_config config_of(const io::checkpoint& source) {
  const family& f = family_of(source);
  if (source.format() != io::checkpoint_format::manifest) return f.config(source);
  const std::optional<io::json_reader> kept = source.config().object("config");
  if (!kept) fail(FT_ERROR_CHECKPOINT, source.config().file(), ": the key 'config' is missing");
  model_config config = config_from_json(*kept);
  if (config.family != f.name)
    fail(FT_ERROR_CHECKPOINT, kept->file(), ": is of the family ", f.name, ", but its configuration of ",
         io::printable(config.family));
  return config;
}

namespace {

// The sources of libft's own folders. A vocabulary that the ranks could not share evenly was left whole.
void use_own_names(weight_table& table, const io::checkpoint& source) {
  const int own_rank = source.share().tensor_rank;
  for (weight_spec& spec : table) {
    spec.sources = {spec.name};
    if (spec.shard == shard_axis::none) continue;
    std::vector<std::string> pieces;
    for (int rank = 0; rank < source.tensor_parallel(); ++rank)
      if (!source.holds_share_alone() || rank == own_rank) pieces.push_back(cat(spec.name, ".", rank));
    spec.sources.push_back(weight_source::joined(std::move(pieces)));
    spec.sources.back().is_share = source.holds_share_alone();
  }
}

}  // namespace

weight_table weights_of(const model_config& config, const io::checkpoint& source) {
  const family& f = family_named(config.family);
  const bool own = source.format() == io::checkpoint_format::manifest;
  weight_table table = f.weights(config, own ? io::checkpoint_format::hugging_face : source.format());
  if (own)
    use_own_names(table, source);
  else if (source.format() == io::checkpoint_format::faster_transformer || io::is_megatron(source.format()))
    split_sources(table, source.tensor_parallel(), io::is_megatron(source.format()));
  take_share(table, config, source);
  return table;
}

}  // namespace ft::arch
