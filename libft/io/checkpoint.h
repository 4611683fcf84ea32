// A checkpoint of any supported format, opened but not loaded.
#pragma once

#include <memory>
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
  // A checkpoint already in memory, for tests and fuzzing. It has no other JSON files.
  static std::shared_ptr<const checkpoint> from_parts(std::string source, json_ptr config,
                                                      std::vector<stored_tensor> tensors,
                                                      std::vector<foreign_tensor> foreign = {});
  static std::shared_ptr<const checkpoint> from_parts(std::string source, gguf_file parts);

  checkpoint(const checkpoint&) = delete;
  checkpoint& operator=(const checkpoint&) = delete;

  const std::string& source() const { return source_; }
  checkpoint_format format() const { return format_; }

  // Hugging Face only: config.json.
  json_reader config() const;
  // Hugging Face only: another JSON file of the folder ("1_Pooling/config.json"); null when there is none. A path that
  // leaves the folder is an error.
  json_ptr read_json(const std::string& relative_path) const;
  // GGUF only.
  const gguf_metadata& metadata() const { return metadata_; }

  std::span<const stored_tensor> tensors() const { return tensors_; }
  const stored_tensor* find(std::string_view name) const;  // null when absent
  // What the files hold besides, but libft has no tensor for.
  std::span<const foreign_tensor> foreign_tensors() const { return foreign_; }
  const foreign_tensor* find_foreign(std::string_view name) const;           // null when absent
  bool holds(std::string_view name) const { return index_.contains(name); }  // of either kind

 private:
  checkpoint() = default;
  void open_folder();
  void read_shards();
  void index_tensors();
  std::string path_of(std::string_view file) const;

  std::string source_;
  checkpoint_format format_ = checkpoint_format::hugging_face;
  bool on_disk_ = true;
  json_ptr config_;
  gguf_metadata metadata_;
  std::vector<stored_tensor> tensors_;
  std::vector<foreign_tensor> foreign_;
  std::unordered_map<std::string_view, size_t> index_;  // by the tensors' own names; the foreign ones count on
};

}  // namespace ft::io
