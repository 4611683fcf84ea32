// A checkpoint of any supported format, opened but not loaded.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/formats/formats.h"

namespace ft::io {

class checkpoint {
 public:
  // A folder or file of any format of io/formats/formats.h, or a .gguf file, for the whole model or a rank's share of
  // it. Throws ft::error; an unrecognised source says what was looked for.
  static std::shared_ptr<const checkpoint> open(const std::string& source, const rank_share& share = {});
  // A checkpoint already in memory, for tests and fuzzing. It has no other JSON files.
  static std::shared_ptr<const checkpoint> from_parts(std::string source, json_ptr config,
                                                      std::vector<stored_tensor> tensors,
                                                      std::vector<foreign_tensor> foreign = {});
  static std::shared_ptr<const checkpoint> from_parts(std::string source, gguf_file parts);
  static std::shared_ptr<const checkpoint> from_parts(std::string source, checkpoint_parts parts);

  checkpoint(const checkpoint&) = delete;
  checkpoint& operator=(const checkpoint&) = delete;

  const std::string& source() const { return source_; }
  checkpoint_format format() const { return parts_.format; }

  // All but GGUF: config.json, config.ini, the arguments that Megatron saved.
  json_reader config() const;
  // Another JSON file of the folder ("1_Pooling/config.json"); null when there is none, or no folder. A path that
  // leaves the folder is an error.
  json_ptr read_json(const std::string& relative_path) const;
  // GGUF only.
  const gguf_metadata& metadata() const { return parts_.metadata; }

  std::span<const stored_tensor> tensors() const { return parts_.tensors; }
  const stored_tensor* find(std::string_view name) const;  // null when absent
  // What the files hold besides, but libft has no tensor for.
  std::span<const foreign_tensor> foreign_tensors() const { return parts_.foreign; }
  const foreign_tensor* find_foreign(std::string_view name) const;           // null when absent
  bool holds(std::string_view name) const { return index_.contains(name); }  // of either kind
  // How many pieces a split tensor has; see checkpoint_parts.
  int tensor_parallel() const { return parts_.tensor_parallel; }
  const rank_share& share() const { return parts_.share; }
  // Whether, of split tensors, only the pieces of share().tensor_rank are there; else each is there as a whole.
  bool holds_share_alone() const { return parts_.share_alone; }

 private:
  checkpoint(std::string source, checkpoint_parts parts, bool is_folder);

  std::string source_;
  checkpoint_parts parts_;
  bool is_folder_ = false;
  std::unordered_map<std::string_view, size_t> index_;  // by the tensors' own names; the foreign ones count on
};

}  // namespace ft::io
