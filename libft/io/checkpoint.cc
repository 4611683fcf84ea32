// Tells what kind of checkpoint a source is, and finds its tensors by name.
#include "io/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "core/status.h"
#include "io/files/folder.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

namespace fs = std::filesystem;

// What to say of a folder of no known format: perhaps the user meant something in it.
[[noreturn]] void fail_unknown_folder(const std::string& source) {
  std::string hint;
  if (const auto gguf = entries_ending(source, ".gguf"); !gguf.empty())
    hint = cat(". It holds ", printable(gguf.front()), ": give that file's path to open it");
  for (const std::string& folder : entries_ending(source, "-gpu"))
    if (hint.empty() && is_faster_transformer(join_path(source, folder)))
      hint = cat(". It holds ", printable(folder), ": give that folder's path to open it");
  fail(FT_ERROR_CHECKPOINT, source,
       ": is a folder without config.json. A Hugging Face folder holds config.json and model.safetensors, or "
       "model.safetensors.index.json with its shards; a FasterTransformer folder holds config.ini; a Megatron folder "
       "mp_rank_00/model_optim_rng.pt or latest_checkpointed_iteration.txt",
       hint);
}

[[noreturn]] void fail_unknown_file(const std::string& source) {
  const bool part = source.ends_with(".safetensors") || source.ends_with(".json");
  fail(FT_ERROR_CHECKPOINT, source, ": is no GGUF file (it does not begin with 'GGUF')",
       part ? "; to open a Hugging Face checkpoint give the path of the folder that holds this file and config.json"
            : ", and no folder with config.json and *.safetensors");
}

checkpoint_parts open_folder(const std::string& source, const rank_share& share) {
  if (is_manifest(source)) return open_manifest(source, share);
  if (is_faster_transformer(source)) return open_faster_transformer(source);
  // Where a Megatron checkpoint was converted in place, the folder is of both formats: the conversion is what is
  // wanted.
  if (is_megatron(source) && !(is_hugging_face(source) && has_hugging_face_weights(source)))
    return open_megatron(source);
  if (is_hugging_face(source)) return open_hugging_face(source);
  fail_unknown_folder(source);
}

checkpoint_parts to_parts(gguf_file file) {
  checkpoint_parts parts;
  parts.format = checkpoint_format::gguf;
  parts.metadata = std::move(file.metadata);
  parts.tensors = std::move(file.tensors);
  return parts;
}

checkpoint_parts open_file(const std::string& source) {
  const auto file = mapped_file::open(source);
  if (!file->text().starts_with("GGUF") && !source.ends_with(".gguf")) fail_unknown_file(source);
  return to_parts(parse_gguf(file));
}

void check_share(const rank_share& share) {
  const auto check = [](const char* what, int index, const char* of, int count) {
    if (count < 1 || index < 0 || index >= count)
      fail(FT_ERROR_INVALID_ARGUMENT, what, " is ", index, " and ", of, " ", count, "; it must be from 0 to below ",
           of);
  };
  check("tensor_rank", share.tensor_rank, "tensor_parallel", share.tensor_parallel);
  check("pipeline_stage", share.pipeline_stage, "pipeline_parallel", share.pipeline_parallel);
}

// Whether `path` stays inside the folder that it is taken from.
bool stays_inside(const std::string& path) {
  if (path.empty() || path.find('\0') != path.npos) return false;
  const fs::path p(path);
  return p.is_relative() && std::none_of(p.begin(), p.end(), [](const fs::path& part) { return part == ".."; });
}

}  // namespace

std::shared_ptr<const checkpoint> checkpoint::open(const std::string& source, const rank_share& share) {
  check_share(share);
  std::error_code fault;
  const fs::file_status status = fs::status(source, fault);
  if (!fs::exists(status))
    fail(FT_ERROR_CHECKPOINT, source, ": cannot be opened: ", fault ? fault.message() : "there is no such file",
         ". A Hugging Face folder (config.json and *.safetensors) or a .gguf file is expected");
  const bool folder = fs::is_directory(status);
  checkpoint_parts parts = folder ? open_folder(source, share) : open_file(source);
  parts.share = share;
  return std::shared_ptr<const checkpoint>(new checkpoint(source, std::move(parts), folder));
}

std::shared_ptr<const checkpoint> checkpoint::from_parts(std::string source, json_ptr config,
                                                         std::vector<stored_tensor> tensors,
                                                         std::vector<foreign_tensor> foreign) {
  checkpoint_parts parts;
  parts.config_file = join_path(source, "config.json");
  parts.config = std::move(config);
  parts.tensors = std::move(tensors);
  parts.foreign = std::move(foreign);
  return from_parts(std::move(source), std::move(parts));
}

std::shared_ptr<const checkpoint> checkpoint::from_parts(std::string source, gguf_file parts) {
  return from_parts(std::move(source), to_parts(std::move(parts)));
}

std::shared_ptr<const checkpoint> checkpoint::from_parts(std::string source, checkpoint_parts parts) {
  return std::shared_ptr<const checkpoint>(new checkpoint(std::move(source), std::move(parts), false));
}

checkpoint::checkpoint(std::string source, checkpoint_parts parts, bool is_folder)
    : source_(std::move(source)), parts_(std::move(parts)), is_folder_(is_folder) {
  const std::vector<stored_tensor>& known = parts_.tensors;  // clang 14 captures no structured bindings
  const std::vector<foreign_tensor>& foreign = parts_.foreign;
  index_.reserve(known.size() + foreign.size());
  const auto file_of = [&](size_t i) {
    return i < known.size() ? known[i].file.get() : foreign[i - known.size()].file.get();
  };
  for (size_t i = 0; i < known.size() + foreign.size(); ++i) {
    const std::string& name = i < known.size() ? known[i].name : foreign[i - known.size()].name;
    const auto [at, fresh] = index_.emplace(name, i);
    if (fresh) continue;
    const mapped_file *file = file_of(i), *other = file_of(at->second);
    fail(FT_ERROR_CHECKPOINT, file->path(), ": tensor '", printable(name),
         "': ", file == other ? std::string("is there twice") : cat("is in ", other->path(), " too"));
  }
}

json_reader checkpoint::config() const {
  FT_CHECK(parts_.config != nullptr);  // a GGUF file has none
  return json_reader(*parts_.config, parts_.config_file);
}

json_ptr checkpoint::read_json(const std::string& relative_path) const {
  if (!stays_inside(relative_path))
    fail(FT_ERROR_CHECKPOINT, source_, ": the path '", printable(relative_path), "' leaves the folder");
  if (!is_folder_) return nullptr;
  const std::string path = join_path(source_, relative_path);
  return file_exists(path) ? read_json_file(path) : nullptr;
}

const stored_tensor* checkpoint::find(std::string_view name) const {
  const auto at = index_.find(name);
  return at == index_.end() || at->second >= parts_.tensors.size() ? nullptr : &parts_.tensors[at->second];
}

const foreign_tensor* checkpoint::find_foreign(std::string_view name) const {
  const auto at = index_.find(name);
  const size_t known = parts_.tensors.size();
  return at == index_.end() || at->second < known ? nullptr : &parts_.foreign[at->second - known];
}

}  // namespace ft::io
