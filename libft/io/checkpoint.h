// A checkpoint of any supported format, opened but not loaded.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/gguf.h"
#include "io/json.h"
#include "io/stored_tensor.h"

namespace ft::io {

enum class checkpoint_format : uint8_t { hugging_face, gguf };

class checkpoint {
 public:
  // A folder with config.json and *.safetensors (one file, or several with model.safetensors.index.json), or a
  // .gguf file. Throws ft::error; an unrecognised source says what was looked for.
  static std::shared_ptr<const checkpoint> open(const std::string& source);

  const std::string& source() const { return source_; }
  checkpoint_format format() const { return format_; }

  // Hugging Face only: config.json.
  json_reader config() const { return json_reader(config_, source_ + "/config.json"); }
  // Hugging Face only: another JSON file of the folder ("1_Pooling/config.json"); empty when there is none.
  std::optional<json> read_json(const std::string& relative_path) const;
  // GGUF only.
  const gguf_metadata& metadata() const { return metadata_; }

  std::span<const stored_tensor> tensors() const { return tensors_; }
  const stored_tensor* find(std::string_view name) const;  // null when absent

 private:
  std::string source_;
  checkpoint_format format_ = checkpoint_format::hugging_face;
  json config_;
  gguf_metadata metadata_;
  std::vector<stored_tensor> tensors_;
  std::unordered_map<std::string_view, size_t> index_;
};

}  // namespace ft::io
