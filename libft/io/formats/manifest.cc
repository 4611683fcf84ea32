// Opens libft's own folders. The manifest is checked against the files it lists, and both are believed as little as
// any.
#include "io/formats/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/status.h"
#include "io/files/folder.h"
#include "io/formats/formats.h"
#include "io/formats/safetensors.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

constexpr int64_t max_ranks = 4096;

class manifest_reader {
 public:
  manifest_reader(const std::string& folder, const rank_share& share, checkpoint_parts& parts)
      : folder_(folder), share_(share), parts_(parts), root_(*parts.config, parts.config_file) {}

  void read() {
    if (const int64_t version = root_.integer("version"); version != manifest_version)
      fail(FT_ERROR_UNSUPPORTED, root_.file(), ": is of version ", version, "; this libft reads version ",
           manifest_version, "; convert the model again with it");
    parts_.tensor_parallel = static_cast<int>(ranks("tensor_parallel"));
    const int64_t stages = ranks("pipeline_parallel");
    parts_.share_alone = parts_.tensor_parallel > 1 && parts_.tensor_parallel == share_.tensor_parallel;
    own_stage_alone_ = stages == share_.pipeline_parallel;
    const json* files = root_.find("files");
    if (!files || !files->is_array()) fault("has no list 'files'");
    for (const json& file : *files) read_file(json_reader(file, root_.file()), stages);
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, root_.file(), ": ", args...);
  }

  int64_t ranks(std::string_view key) const {
    const int64_t count = root_.integer(key);
    if (count < 1 || count > max_ranks) fault("'", key, "' is ", count, "; it must be from 1 to ", max_ranks);
    return count;
  }

  void read_file(const json_reader& entry, int64_t stages) {
    const std::string name = entry.string("name");
    if (!is_file_name(name)) fault("'", printable(name), "' is no name of a file in the same folder");
    const int64_t rank = entry.integer("rank", -1), stage = entry.integer("stage", -1);
    if (rank < -1 || rank >= parts_.tensor_parallel || stage < -1 || stage >= stages)
      fault(printable(name), " is of rank ", rank, " and stage ", stage, ", which are not among the ",
            parts_.tensor_parallel, " x ", stages);
    if (parts_.share_alone && rank >= 0 && rank != share_.tensor_rank) return;
    if (own_stage_alone_ && stage >= 0 && stage != share_.pipeline_stage) return;
    const auto file = mapped_file::open(join_path(folder_, name));
    tensor_file found = parse_safetensors(file);
    for (stored_tensor& t : found.tensors) {
      give_type(t);
      if (rank >= 0) t.name += cat(".", rank);
      parts_.tensors.push_back(std::move(t));
    }
    for (foreign_tensor& t : found.foreign) parts_.foreign.push_back(std::move(t));
  }

  // Bytes that are blocks of a quantised type become what they are.
  void give_type(stored_tensor& t) const {
    const auto weights = root_.object("weights");
    const auto weight = weights ? weights->object(t.name) : std::nullopt;
    if (!weight)
      fail(FT_ERROR_CHECKPOINT, t.file->path(), ": tensor '", printable(t.name), "': is not in the manifest");
    const std::string type_name = weight->string("dtype");
    const std::optional<dtype> type = dtype_from_name(type_name);
    if (!type) fault("tensor '", printable(t.name), "': unknown dtype '", printable(type_name), "'");
    if (*type == t.data.type) return;
    const bool blocks = is_quantised(*type) && t.data.type == dtype::u8 && t.data.rank == 2 &&
                        t.data.dim(1) % traits(*type).block_bytes == 0;
    if (!blocks)
      fail(FT_ERROR_CHECKPOINT, t.file->path(), ": tensor '", printable(t.name), "': is ", ft::name(t.data.type),
           ", which cannot be ", type_name, " as the manifest says");
    const auto columns = static_cast<uint64_t>(t.data.dim(1) / traits(*type).block_bytes) *
                         static_cast<uint64_t>(traits(*type).block_elements);
    const uint64_t shape[] = {static_cast<uint64_t>(t.data.dim(0)), columns};
    const auto offset = static_cast<uint64_t>(static_cast<const std::byte*>(t.data.data) - t.file->data());
    if (!stored_bytes(*type, shape))
      fail(FT_ERROR_CHECKPOINT, t.file->path(), ": tensor '", printable(t.name), "': its shape is too large");
    t = view_stored(std::move(t.name), *type, shape, t.file, offset);
  }

  const std::string& folder_;
  const rank_share& share_;
  bool own_stage_alone_ = false;
  checkpoint_parts& parts_;
  json_reader root_;
};

}  // namespace

std::string weights_file(std::optional<int> rank, std::optional<int> stage) {
  std::string name = "weights";
  if (stage) name += cat(".stage-", *stage);
  if (rank) name += cat(".rank-", *rank);
  return name + ".safetensors";
}

bool is_manifest(const std::string& folder) { return file_exists(join_path(folder, manifest_file)); }

checkpoint_parts open_manifest(const std::string& folder, const rank_share& share) {
  checkpoint_parts parts;
  parts.format = checkpoint_format::manifest;
  parts.config_file = join_path(folder, manifest_file);
  parts.config = read_json_object(parts.config_file);
  if (json_reader(*parts.config, parts.config_file).string("format", "") != manifest_format)
    fail(FT_ERROR_CHECKPOINT, parts.config_file, ": is no manifest of libft: 'format' is not '", manifest_format, "'");
  manifest_reader(folder, share, parts).read();
  return parts;
}

}  // namespace ft::io
