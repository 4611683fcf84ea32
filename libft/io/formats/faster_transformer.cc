// FasterTransformer's files say nothing of themselves: the configuration gives the element type, the weight table the
// shapes, and a file's length has to agree with both.
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/status.h"
#include "io/files/folder.h"
#include "io/formats/formats.h"
#include "io/text/ini.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

constexpr std::string_view config_file = "config.ini";
constexpr std::string_view tensor_end = ".bin";
constexpr int max_ranks = 4096;

// Every section that names the weights' type must name the same.
dtype read_dtype(const json& config, const std::string& file) {
  std::string type = "fp32";  // FasterTransformer's default
  bool given = false;
  for (const auto& [section, values] : config.get_ref<const json::object_t&>()) {
    const json_reader reader(values, file);
    const std::string here = reader.string("weight_data_type", "");
    if (here.empty()) continue;
    if (given && here != type)
      fail(FT_ERROR_UNSUPPORTED, file, ": the sections have different weight_data_type: ", printable(type), " and ",
           printable(here));
    type = here;
    given = true;
  }
  if (type == "fp32") return dtype::f32;
  if (type == "fp16") return dtype::f16;
  if (type == "bf16") return dtype::bf16;
  fail(FT_ERROR_UNSUPPORTED, file, ": weight_data_type '", printable(type),
       "' is not supported; fp32, fp16 and bf16 are");
}

// Matrices that the converters stored quantised as well, and their scales, have types of their own.
dtype dtype_of(const std::string& name, dtype usual) {
  return name.find(".weight.int8.") != name.npos ? dtype::i8 : usual;
}

// The rank in "name.<rank>"; nothing when the name has none.
std::optional<int> rank_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  if (dot == name.npos) return std::nullopt;
  int rank = 0;
  const auto [end, fault] = std::from_chars(name.data() + dot + 1, name.data() + name.size(), rank);
  const bool whole = fault == std::errc() && end == name.data() + name.size() && end != name.data() + dot + 1;
  return whole && rank >= 0 ? std::optional(rank) : std::nullopt;
}

stored_tensor open_tensor(const std::string& folder, const std::string& file_name, dtype usual) {
  std::string name = file_name.substr(0, file_name.size() - tensor_end.size());
  const auto file = mapped_file::open(join_path(folder, file_name));
  const dtype type = dtype_of(name, usual);
  const auto width = static_cast<size_t>(traits(type).block_bytes);
  if (!is_name(name)) fail(FT_ERROR_CHECKPOINT, folder, ": a file's name is no UTF-8: ", printable(file_name));
  if (file->size() % width)
    fail(FT_ERROR_CHECKPOINT, file->path(), ": tensor '", printable(name), "': has ", file->size(),
         " bytes, which is no whole number of ", ft::name(type), " elements; is it truncated, or weight_data_type in ",
         config_file, " wrong?");
  const uint64_t elements = file->size() / width;
  return view_stored(std::move(name), type, {&elements, 1}, file, 0);
}

}  // namespace

bool is_faster_transformer(const std::string& folder) { return file_exists(join_path(folder, config_file)); }

checkpoint_parts open_faster_transformer(const std::string& folder) {
  checkpoint_parts parts;
  parts.format = checkpoint_format::faster_transformer;
  parts.config_file = join_path(folder, config_file);
  parts.config = parse_ini(mapped_file::open(parts.config_file)->text(), parts.config_file);
  const dtype type = read_dtype(*parts.config, parts.config_file);
  for (const std::string& file : entries_ending(folder, tensor_end)) {
    // What belongs to a Hugging Face model in the same folder is read as such, below.
    if (file.starts_with("pytorch_model") || file == "training_args.bin") continue;
    parts.tensors.push_back(open_tensor(folder, file, type));
    const int ranks = rank_of(parts.tensors.back().name).value_or(0) + 1;
    if (ranks > max_ranks)
      fail(FT_ERROR_CHECKPOINT, join_path(folder, file), ": rank ", ranks - 1, " is beyond the ", max_ranks,
           " supported");
    parts.tensor_parallel = std::max(parts.tensor_parallel, ranks);
  }
  if (parts.tensors.empty())
    fail(FT_ERROR_CHECKPOINT, folder, ": has a ", config_file, " but no tensors: looked for *", tensor_end);
  // FasterTransformer leaves BERT's embeddings and heads to the framework around it. They may lie in the same folder.
  add_hugging_face_weights(folder, parts);
  return parts;
}

}  // namespace ft::io
