// Finds the files of a Hugging Face folder as transformers does, and gathers the tensors they hold.
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/status.h"
#include "io/files/folder.h"
#include "io/formats/formats.h"
#include "io/formats/safetensors.h"
#include "io/text/printable.h"
#include "io/torch/torch_file.h"

namespace ft::io {
namespace {

constexpr std::string_view single_file = "model.safetensors";
constexpr std::string_view torch_file = "pytorch_model.bin";
constexpr std::string_view index_end = ".index.json";

// Shard files beside the index, and the tensors that it promises in each.
using shard_map = std::map<std::string, std::vector<std::string>>;

shard_map read_index(const std::string& path) {
  const json_ptr root = read_json_file(path);
  const json_reader reader(*root, path);
  const json* weights = reader.find("weight_map");
  if (!weights || !weights->is_object()) fail(FT_ERROR_CHECKPOINT, path, ": has no object 'weight_map'");
  shard_map shards;
  for (const auto& [name, file] : weights->get_ref<const json::object_t&>()) {
    if (!file.is_string()) fail(FT_ERROR_CHECKPOINT, path, ": tensor '", printable(name), "': its file is no string");
    const auto& shard = file.get_ref<const std::string&>();
    if (!is_file_name(shard))
      fail(FT_ERROR_CHECKPOINT, path, ": tensor '", printable(name), "': '", printable(shard),
           "' is no name of a file in the same folder");
    shards[shard].push_back(name);
  }
  if (shards.empty()) fail(FT_ERROR_CHECKPOINT, path, ": 'weight_map' is empty");
  return shards;
}

void check_promised(const tensor_file& shard, const std::vector<std::string>& promised, const std::string& path) {
  std::set<std::string_view> names;
  for (const stored_tensor& t : shard.tensors) names.insert(t.name);
  for (const foreign_tensor& t : shard.foreign) names.insert(t.name);
  for (const std::string& name : promised)
    if (!names.count(name))
      fail(FT_ERROR_CHECKPOINT, path, ": tensor '", printable(name),
           "': is missing, though the index says that it is here");
}

// The single file, the index, and failing both every safetensors file there is; then the same of torch's format.
shard_map find_shards(const std::string& folder) {
  shard_map shards;
  for (std::string_view file : {single_file, torch_file}) {
    const std::string index = cat(file, index_end);
    if (file_exists(join_path(folder, file)))
      shards[std::string(file)];
    else if (file_exists(join_path(folder, index)))
      shards = read_index(join_path(folder, index));
    else if (file == single_file)
      for (std::string& name : entries_ending(folder, ".safetensors")) shards[std::move(name)];
    if (!shards.empty()) break;
  }
  return shards;
}

[[noreturn]] void fail_no_weights(const std::string& folder) {
  std::string hint;
  for (std::string_view end : {".bin", ".pt", ".pth", ".h5", ".msgpack"})
    if (const auto files = entries_ending(folder, end); !files.empty() && hint.empty())
      hint = cat(". It holds ", printable(files.front()), ", which libft does not read: save it again as safetensors");
  fail(FT_ERROR_CHECKPOINT, folder, ": has a config.json but no weights: looked for ", single_file, ", ", single_file,
       index_end, ", *.safetensors, ", torch_file, " and ", torch_file, index_end, hint);
}

}  // namespace

bool is_hugging_face(const std::string& folder) { return file_exists(join_path(folder, "config.json")); }

bool has_hugging_face_weights(const std::string& folder) {
  for (std::string_view file : {single_file, torch_file})
    if (file_exists(join_path(folder, file)) || file_exists(join_path(folder, cat(file, index_end)))) return true;
  return !entries_ending(folder, ".safetensors").empty();
}

bool add_hugging_face_weights(const std::string& folder, checkpoint_parts& parts) {
  const shard_map shards = find_shards(folder);
  for (const auto& [name, promised] : shards) {
    const auto file = mapped_file::open(join_path(folder, name));
    tensor_file shard = name.ends_with(".bin") ? std::move(read_torch_file(file).found) : parse_safetensors(file);
    check_promised(shard, promised, file->path());
    std::move(shard.tensors.begin(), shard.tensors.end(), std::back_inserter(parts.tensors));
    std::move(shard.foreign.begin(), shard.foreign.end(), std::back_inserter(parts.foreign));
  }
  return !shards.empty();
}

checkpoint_parts open_hugging_face(const std::string& folder) {
  checkpoint_parts parts;
  parts.config_file = join_path(folder, "config.json");
  parts.config = read_json_object(parts.config_file);
  if (!add_hugging_face_weights(folder, parts)) fail_no_weights(folder);
  return parts;
}

}  // namespace ft::io
