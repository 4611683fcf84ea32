// sentence-transformers keeps what follows the transformer, pooling and normalisation, as a list of modules beside it
// (https://sbert.net/docs/sentence_transformer/usage/custom_models.html).
#include <nlohmann/json.hpp>

#include "arch/config/config_reading.h"
#include "core/status.h"

namespace ft::arch {
namespace {

// Either one boolean a mode, or (since version 5) "pooling_mode" with the mode's name.
pool_kind read_pooling(const io::json_reader& config) {
  static constexpr struct {
    std::string_view flag, name;
    pool_kind kind;
  } modes[] = {
      {"pooling_mode_cls_token", "cls", pool_kind::first},
      {"pooling_mode_mean_tokens", "mean", pool_kind::mean},
      {"pooling_mode_max_tokens", "max", pool_kind::max},
      {"pooling_mode_lasttoken", "lasttoken", pool_kind::last},
  };
  std::optional<pool_kind> chosen;
  for (const auto& [key, value] : config.value().items()) {
    const bool named = key == "pooling_mode";
    if (!named && !(key.starts_with("pooling_mode_") && value == true)) continue;
    std::optional<pool_kind> mode;
    for (const auto& m : modes)
      if (named ? value == m.name : key == m.flag) mode = m.kind;
    if (!mode)
      fail(FT_ERROR_UNSUPPORTED, config.file(), ": ", key, named ? " " + value.dump() : "",
           " is not supported; cls, mean, max and last token are");
    if (chosen && chosen != mode)
      fail(FT_ERROR_UNSUPPORTED, config.file(), ": several pooling modes side by side are not supported");
    chosen = mode;
  }
  return chosen.value_or(pool_kind::mean);
}

std::string text_of(const io::json& module, const char* key, const std::string& file) {
  return io::json_reader(module, file).string(key);
}

}  // namespace

void read_sentence_modules(model_config& config, const io::checkpoint& source) {
  if (source.format() != io::checkpoint_format::hugging_face) return;
  const io::json_ptr modules = source.read_json("modules.json");
  if (!modules) return;
  const std::string file = source.source() + "/modules.json";
  if (!modules->is_array()) fail(FT_ERROR_CHECKPOINT, file, ": not a list of modules");
  for (const io::json& module : *modules) {
    const std::string type = text_of(module, "type", file);
    const std::string kind = type.substr(type.rfind('.') + 1);
    if (kind == "Pooling") {
      const std::string path = text_of(module, "path", file) + "/config.json";
      const io::json_ptr pooling = source.read_json(path);
      if (!pooling) fail(FT_ERROR_CHECKPOINT, file, ": names ", path, ", which is not there");
      config.pooling.kind = read_pooling({*pooling, source.source() + "/" + path});
    } else if (kind == "Normalize") {
      config.pooling.normalize = true;
    } else if (kind != "Transformer" && kind != "Dropout") {
      fail(FT_ERROR_UNSUPPORTED, file, ": the module ", type,
           " is not supported; Transformer, Pooling, Normalize and Dropout are");
    }
  }
}

}  // namespace ft::arch
