// Joins the ranks of a Megatron-LM checkpoint: pipeline stages by renumbering their layers, tensor-parallel ranks by
// naming the pieces, which the weight table joins.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

#include "core/status.h"
#include "io/files/folder.h"
#include "io/formats/formats.h"
#include "io/text/printable.h"
#include "io/torch/torch_file.h"

namespace ft::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view tracker = "latest_checkpointed_iteration.txt";
constexpr std::string_view weight_files[] = {"model_optim_rng.pt", "model_rng.pt"};
constexpr int max_ranks = 4096;

struct rank {
  int tensor = 0, pipeline = 0;
  auto operator<=>(const rank&) const = default;
};

// The whole text as a number of a rank; nothing when it is none.
std::optional<int> number(std::string_view text) {
  int value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || fault != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value >= 0 && value < max_ranks ? std::optional(value) : std::nullopt;
}

// "mp_rank_03", "mp_rank_03_001" and "tp_rank_03_pp_rank_001": tensor rank 3, of pipeline stage 1.
std::optional<rank> rank_of(std::string_view name) {
  std::string_view between = "_";
  if (name.starts_with("tp_rank_"))
    between = "_pp_rank_";
  else if (!name.starts_with("mp_rank_"))
    return std::nullopt;
  name.remove_prefix(8);
  const size_t cut = name.find(between);
  const std::optional<int> tensor = number(name.substr(0, cut));
  const std::optional<int> pipeline = cut == name.npos ? 0 : number(name.substr(cut + between.size()));
  if (!tensor || !pipeline) return std::nullopt;
  return rank{*tensor, *pipeline};
}

// The weights' file in a rank's folder; empty when there is none.
std::string weights_in(const std::string& folder) {
  for (std::string_view name : weight_files)
    if (std::string path = join_path(folder, name); file_exists(path)) return path;
  return "";
}

bool has_ranks(const std::string& folder) {
  if (!weights_in(folder).empty()) return true;
  for (const std::string& entry : entries_ending(folder, ""))
    if (rank_of(entry) && !weights_in(join_path(folder, entry)).empty()) return true;
  return false;
}

// The folder of the ranks: `source` itself, or that of the iteration which its tracker names.
std::string rank_folder(const std::string& source) {
  if (has_ranks(source)) return source;
  const auto file = mapped_file::open(join_path(source, tracker));
  std::string_view text = file->text();
  while (!text.empty() && static_cast<unsigned char>(text.back()) <= ' ') text.remove_suffix(1);
  std::string name(text);
  if (name != "release") {
    const bool digits = !name.empty() && name.size() <= 18 &&
                        std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits) fail(FT_ERROR_CHECKPOINT, file->path(), ": names no iteration: '", printable(name), "'");
    name = cat("iter_", std::string(name.size() < 7 ? 7 - name.size() : 0, '0'), name);
  }
  const std::string folder = join_path(source, name);
  if (!file_exists(folder) || !has_ranks(folder))
    fail(FT_ERROR_CHECKPOINT, folder, ": holds no rank (mp_rank_00/", weight_files[0], "), though ", file->path(),
         " names it");
  return folder;
}

// Every rank's file. All of a full grid must be there.
std::map<rank, std::string> find_ranks(const std::string& folder) {
  std::map<rank, std::string> files;
  if (std::string alone = weights_in(folder); !alone.empty()) return {{rank{}, std::move(alone)}};
  rank last;
  for (const std::string& entry : entries_ending(folder, "")) {
    const std::optional<rank> r = rank_of(entry);
    if (!r) continue;
    std::string path = weights_in(join_path(folder, entry));
    if (path.empty()) fail(FT_ERROR_CHECKPOINT, join_path(folder, entry), ": holds no ", weight_files[0]);
    if (const auto [at, fresh] = files.emplace(*r, std::move(path)); !fresh)
      fail(FT_ERROR_CHECKPOINT, folder, ": has tensor rank ", r->tensor, " of stage ", r->pipeline,
           " twice: ", at->second, " and ", printable(entry));
    last = {std::max(last.tensor, r->tensor), std::max(last.pipeline, r->pipeline)};
  }
  for (rank r; r.tensor <= last.tensor; ++r.tensor)
    for (r.pipeline = 0; r.pipeline <= last.pipeline; ++r.pipeline)
      if (!files.count(r))
        fail(FT_ERROR_CHECKPOINT, folder, ": tensor rank ", r.tensor, " of pipeline stage ", r.pipeline,
             " is missing, of ", last.tensor + 1, " ranks and ", last.pipeline + 1, " stages");
  return files;
}

// Whether tensor parallelism splits the tensor of this name; the others are the same on every rank. By Megatron's
// layers: column-parallel matrices with their biases, row-parallel ones without, embeddings along the vocabulary.
bool is_split(std::string_view name) {
  for (std::string_view end :
       {"word_embeddings.weight", "word_embeddings_for_head.weight", "output_layer.weight", "query_key_value.weight",
        "query_key_value.bias", "query.weight", "query.bias", "key_value.weight", "key_value.bias",
        "dense_h_to_4h.weight", "dense_h_to_4h.bias", "attention.dense.weight", "dense_4h_to_h.weight"})
    if (name.ends_with(end)) return true;
  return false;
}

// A layer's number in "...layers.7.rest": where its digits begin and end.
struct layer_place {
  size_t begin, end;
  int number;
};

std::optional<layer_place> find_layer(std::string_view name) {
  constexpr std::string_view word = "layers.";
  const size_t at = name.find(word);
  if (at == name.npos || (at && name[at - 1] != '.')) return std::nullopt;
  const size_t begin = at + word.size(), end = std::min(name.find('.', begin), name.size());
  const std::optional<int> value = number(name.substr(begin, end - begin));
  if (!value) return std::nullopt;
  return layer_place{begin, end, *value};
}

// "transformer" became "encoder", and its "attention" "self_attention".
void use_newer_name(std::string& name) {
  constexpr std::string_view old_stack = "language_model.transformer.", old_attention = ".attention.";
  if (name.starts_with(old_stack)) name.replace(0, old_stack.size(), "language_model.encoder.");
  if (const size_t at = name.find(old_attention); at != name.npos)
    name.replace(at, old_attention.size(), ".self_attention.");
}

checkpoint_format format_of_version(const json& config, const std::string& file) {
  const double version = json_reader(config, file).number("checkpoint_version", 0);
  if (version == 0) return checkpoint_format::megatron_0;
  if (version == 1) return checkpoint_format::megatron_1;
  if (version == 2 || version == 3) return checkpoint_format::megatron;
  fail(FT_ERROR_UNSUPPORTED, file, ": checkpoint_version ", version, " is not supported; 0 to 3 are");
}

class megatron_reader {
 public:
  megatron_reader(const std::map<rank, std::string>& files, checkpoint_parts& parts) : files_(files), parts_(parts) {}

  void read() {
    const rank last = files_.rbegin()->first;
    parts_.tensor_parallel = last.tensor + 1;
    for (int stage = 0; stage <= last.pipeline; ++stage) {
      int layers = 0;
      for (int tensor = 0; tensor <= last.tensor; ++tensor) layers = std::max(layers, read_rank({tensor, stage}));
      layers_before_ += layers;
    }
    check_ranks(last);
  }

 private:
  // Adds the rank's tensors; the number of layers in it.
  int read_rank(rank r) {
    const auto file = mapped_file::open(files_.at(r));
    torch_contents contents = read_torch_file(file);
    if (!parts_.config) {
      parts_.config = std::move(contents.scalars);
      parts_.config_file = file->path();
    }
    int layers = 0;
    bool any = false;
    for (stored_tensor& t : contents.found.tensors) {
      constexpr std::string_view root = "model.";
      if (t.name.starts_with("model0."))
        fail(FT_ERROR_UNSUPPORTED, file->path(), ": interleaved pipeline stages are not supported");
      if (!t.name.starts_with(root)) continue;  // the optimizer's
      any = true;
      t.name.erase(0, root.size());
      use_newer_name(t.name);
      if (const std::optional<layer_place> at = find_layer(t.name)) {
        layers = std::max(layers, at->number + 1);
        t.name.replace(at->begin, at->end - at->begin, std::to_string(layers_before_ + at->number));
      }
      add(std::move(t), r);
    }
    if (!any) fail(FT_ERROR_CHECKPOINT, file->path(), ": holds no weights under 'model'");
    return layers;
  }

  void add(stored_tensor t, rank r) {
    if (is_split(t.name))
      t.name += cat(".", r.tensor);
    else if (r.tensor != 0)
      return;
    if (names_.insert(t.name).second || r.pipeline == 0) parts_.tensors.push_back(std::move(t));
  }

  // The saved arguments must tell of as many ranks as there are files.
  void check_ranks(rank last) const {
    const json_reader saved(*parts_.config, parts_.config_file);
    const std::optional<json_reader> arguments = saved.object("args");
    if (!arguments) return;
    const auto check = [&](const char* key, int found) {
      if (const int64_t said = arguments->integer(key, found); said != found)
        fail(FT_ERROR_CHECKPOINT, parts_.config_file, ": was saved with ", key, " = ", said, ", but the folder holds ",
             found);
    };
    check("tensor_model_parallel_size", last.tensor + 1);
    check("pipeline_model_parallel_size", last.pipeline + 1);
  }

  const std::map<rank, std::string>& files_;
  checkpoint_parts& parts_;
  int layers_before_ = 0;                  // of the stage that is read
  std::unordered_set<std::string> names_;  // a tied embedding is saved by the first stage and the last
};

}  // namespace

bool is_megatron(const std::string& folder) { return file_exists(join_path(folder, tracker)) || has_ranks(folder); }

checkpoint_parts open_megatron(const std::string& folder) {
  checkpoint_parts parts;
  const std::map<rank, std::string> files = find_ranks(rank_folder(folder));
  megatron_reader(files, parts).read();
  parts.format = format_of_version(*parts.config, parts.config_file);
  return parts;
}

}  // namespace ft::io
