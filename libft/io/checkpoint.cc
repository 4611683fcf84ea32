// Finds the files that make up a checkpoint and gathers what they hold.
#include "io/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "core/status.h"
#include "io/printable.h"
#include "io/safetensors.h"

namespace ft::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view single_file = "model.safetensors";
constexpr std::string_view index_file = "model.safetensors.index.json";
constexpr size_t max_json_bytes = 100'000'000;

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

json_ptr read_json_file(const std::string& path) {
  const auto file = mapped_file::open(path);
  if (file->size() > max_json_bytes)
    fail(FT_ERROR_CHECKPOINT, path, ": has ", file->size(), " bytes; at most ", max_json_bytes, " are read as JSON");
  return parse_json(file->text(), path);
}

// Names of the folder's entries that end so, sorted.
std::vector<std::string> entries_ending(const std::string& folder, std::string_view end) {
  std::vector<std::string> names;
  std::error_code fault;
  for (fs::directory_iterator at(folder, fault), last; !fault && at != last; at.increment(fault))
    if (std::string name = at->path().filename().string(); ends_with(name, end)) names.push_back(std::move(name));
  if (fault) fail(FT_ERROR_CHECKPOINT, folder, ": cannot be listed: ", fault.message());
  std::sort(names.begin(), names.end());
  return names;
}

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
    if (shard.empty() || shard == "." || shard == ".." ||
        shard.find_first_of(std::string_view("/\\\0", 3)) != shard.npos)
      fail(FT_ERROR_CHECKPOINT, path, ": tensor '", printable(name), "': '", printable(shard),
           "' is no name of a file in the same folder");
    shards[shard].push_back(name);
  }
  if (shards.empty()) fail(FT_ERROR_CHECKPOINT, path, ": 'weight_map' is empty");
  return shards;
}

void check_promised(const safetensors_file& found, const std::vector<std::string>& promised, const std::string& shard,
                    std::string_view index) {
  std::set<std::string_view> names;
  for (const stored_tensor& t : found.tensors) names.insert(t.name);
  for (const foreign_tensor& t : found.foreign) names.insert(t.name);
  for (const std::string& name : promised)
    if (!names.count(name))
      fail(FT_ERROR_CHECKPOINT, shard, ": tensor '", printable(name), "': is missing, though ", index,
           " says that it is here");
}

// What to say of a folder without config.json: perhaps the user meant something in it.
[[noreturn]] void fail_no_config(const std::string& source) {
  std::string hint;
  if (const auto gguf = entries_ending(source, ".gguf"); !gguf.empty())
    hint = cat(". It holds ", printable(gguf.front()), ": give that file's path to open it");
  fail(FT_ERROR_CHECKPOINT, source, ": is a folder without config.json. A Hugging Face folder holds config.json and ",
       single_file, ", or ", index_file, " with its shards", hint);
}

[[noreturn]] void fail_no_weights(const std::string& source) {
  std::string hint;
  for (std::string_view end : {".bin", ".pt", ".pth", ".h5", ".msgpack"})
    if (const auto files = entries_ending(source, end); !files.empty() && hint.empty())
      hint = cat(". It holds ", printable(files.front()), ", which libft does not read: save it again as safetensors");
  fail(FT_ERROR_CHECKPOINT, source, ": has a config.json but no weights: looked for ", single_file, ", ", index_file,
       " and *.safetensors", hint);
}

[[noreturn]] void fail_unknown_file(const std::string& source) {
  const bool part = ends_with(source, ".safetensors") || ends_with(source, ".json");
  fail(FT_ERROR_CHECKPOINT, source, ": is no GGUF file (it does not begin with 'GGUF')",
       part ? "; to open a Hugging Face checkpoint give the path of the folder that holds this file and config.json"
            : ", and no folder with config.json and *.safetensors");
}

// Whether `path` stays inside the folder that it is taken from.
bool stays_inside(const std::string& path) {
  if (path.empty() || path.find('\0') != path.npos) return false;
  const fs::path p(path);
  return p.is_relative() && std::none_of(p.begin(), p.end(), [](const fs::path& part) { return part == ".."; });
}

}  // namespace

std::shared_ptr<const checkpoint> checkpoint::open(const std::string& source) {
  std::shared_ptr<checkpoint> c(new checkpoint);
  c->source_ = source;
  std::error_code fault;
  const fs::file_status status = fs::status(source, fault);
  if (!fs::exists(status))
    fail(FT_ERROR_CHECKPOINT, source, ": cannot be opened: ", fault ? fault.message() : "there is no such file",
         ". A Hugging Face folder (config.json and *.safetensors) or a .gguf file is expected");
  if (fs::is_directory(status)) {
    c->open_folder();
  } else {
    const auto file = mapped_file::open(source);
    if (file->text().substr(0, 4) != "GGUF" && !ends_with(source, ".gguf")) fail_unknown_file(source);
    gguf_file parts = parse_gguf(file);
    c->format_ = checkpoint_format::gguf;
    c->metadata_ = std::move(parts.metadata);
    c->tensors_ = std::move(parts.tensors);
  }
  c->index_tensors();
  return c;
}

std::shared_ptr<const checkpoint> checkpoint::from_parts(std::string source, json_ptr config,
                                                         std::vector<stored_tensor> tensors,
                                                         std::vector<foreign_tensor> foreign) {
  std::shared_ptr<checkpoint> c(new checkpoint);
  c->source_ = std::move(source);
  c->on_disk_ = false;
  c->config_ = std::move(config);
  c->tensors_ = std::move(tensors);
  c->foreign_ = std::move(foreign);
  c->index_tensors();
  return c;
}

std::shared_ptr<const checkpoint> checkpoint::from_parts(std::string source, gguf_file parts) {
  std::shared_ptr<checkpoint> c(new checkpoint);
  c->source_ = std::move(source);
  c->on_disk_ = false;
  c->format_ = checkpoint_format::gguf;
  c->metadata_ = std::move(parts.metadata);
  c->tensors_ = std::move(parts.tensors);
  c->index_tensors();
  return c;
}

std::string checkpoint::path_of(std::string_view file) const {
  return ends_with(source_, "/") ? cat(source_, file) : cat(source_, "/", file);
}

void checkpoint::open_folder() {
  std::error_code fault;
  if (const std::string config = path_of("config.json"); fs::exists(config, fault))
    config_ = read_json_file(config);
  else
    fail_no_config(source_);
  if (!config_->is_object()) fail(FT_ERROR_CHECKPOINT, path_of("config.json"), ": is no JSON object");
  read_shards();
}

// As transformers looks for them: the single file, the index, and failing both every safetensors file there is.
void checkpoint::read_shards() {
  std::error_code fault;
  shard_map shards;
  if (fs::exists(path_of(single_file), fault)) {
    shards[std::string(single_file)];
  } else if (fs::exists(path_of(index_file), fault)) {
    shards = read_index(path_of(index_file));
  } else {
    for (std::string& name : entries_ending(source_, ".safetensors")) shards[std::move(name)];
  }
  if (shards.empty()) fail_no_weights(source_);
  for (const auto& [name, promised] : shards) {
    const auto file = mapped_file::open(path_of(name));
    safetensors_file found = parse_safetensors(file);
    check_promised(found, promised, file->path(), index_file);
    std::move(found.tensors.begin(), found.tensors.end(), std::back_inserter(tensors_));
    std::move(found.foreign.begin(), found.foreign.end(), std::back_inserter(foreign_));
  }
}

void checkpoint::index_tensors() {
  const size_t known = tensors_.size();
  index_.reserve(known + foreign_.size());
  const auto file_of = [&](size_t i) { return i < known ? tensors_[i].file.get() : foreign_[i - known].file.get(); };
  for (size_t i = 0; i < known + foreign_.size(); ++i) {
    const std::string& name = i < known ? tensors_[i].name : foreign_[i - known].name;
    const auto [at, fresh] = index_.emplace(name, i);
    if (fresh) continue;
    const mapped_file *file = file_of(i), *other = file_of(at->second);
    fail(FT_ERROR_CHECKPOINT, file->path(), ": tensor '", printable(name),
         "': ", file == other ? std::string("is there twice") : cat("is in ", other->path(), " too"));
  }
}

json_reader checkpoint::config() const {
  FT_CHECK(config_ != nullptr);  // a GGUF file has none
  return json_reader(*config_, path_of("config.json"));
}

json_ptr checkpoint::read_json(const std::string& relative_path) const {
  if (!stays_inside(relative_path))
    fail(FT_ERROR_CHECKPOINT, source_, ": the path '", printable(relative_path), "' leaves the folder");
  if (!on_disk_ || format_ != checkpoint_format::hugging_face) return nullptr;
  const std::string path = path_of(relative_path);
  std::error_code fault;
  return fs::exists(path, fault) ? read_json_file(path) : nullptr;
}

const stored_tensor* checkpoint::find(std::string_view name) const {
  const auto at = index_.find(name);
  return at == index_.end() || at->second >= tensors_.size() ? nullptr : &tensors_[at->second];
}

const foreign_tensor* checkpoint::find_foreign(std::string_view name) const {
  const auto at = index_.find(name);
  return at == index_.end() || at->second < tensors_.size() ? nullptr : &foreign_[at->second - tensors_.size()];
}

}  // namespace ft::io
