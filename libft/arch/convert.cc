#include "arch/convert.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "arch/config/config_json.h"
#include "arch/weights/weight_share.h"
#include "arch/weights/weight_view.h"
#include "core/memory.h"
#include "core/status.h"
#include "io/files/folder.h"
#include "io/files/output_file.h"
#include "io/formats/manifest.h"
#include "io/formats/safetensors_writer.h"
#include "ops/gguf_blocks.h"

namespace ft::arch {
namespace {

// What pyft reads beside the weights. The rest (sizes, end tokens, pooling) is in the configuration.
constexpr std::string_view text_files[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "spiece.model",
};

const char* text(shard_axis axis) {
  constexpr const char* names[] = {"none", "column", "row", "vocabulary"};
  return names[static_cast<size_t>(axis)];
}

// One weight and how it is laid out in the new folder.
struct planned_weight {
  const weight_spec* spec = nullptr;
  weight_view view;
  const weight_format* format = nullptr;  // in the new folder
  int axis = 0;                           // that the ranks split, and
  int pieces = 1;                         // into how many
  std::optional<int> stage;               // of the pipeline; nothing: all of them
  std::vector<int64_t> piece_shape() const {
    std::vector<int64_t> shape = spec->shape;
    shape[static_cast<size_t>(axis)] /= pieces;
    return shape;
  }
};

const weight_format& target_format(const std::string& name, const weight_format& stored) {
  if (name.empty() || name == "auto") return stored;
  for (const weight_format& format : weight_formats())
    if (format.is_float() && format.name == name) return format;
  fail(FT_ERROR_INVALID_ARGUMENT, "dtype '", name, "' is none to convert to; use auto, float32, bfloat16 or float16");
}

class converter {
 public:
  converter(std::shared_ptr<const io::checkpoint> source, const convert_options& options)
      : source_(std::move(source)),
        options_(options),
        config_(config_of(*source_)),
        table_(weights_of(config_, *source_)),
        match_(match(table_, *source_)) {
    require_complete(match_, *source_);
    check_rank_files(config_, options_.tensor_parallel, options_.pipeline_parallel);
    plan();
  }

  void write(io::output_folder& folder) {
    for (const auto& [place, weights] : files_) write_file(folder, place, weights);
    write_texts(folder);
    folder.write(io::manifest_file, manifest()->dump(1));  // last: a folder without it is none
  }

 private:
  struct place {
    std::optional<int> stage, rank;
    auto operator<=>(const place&) const = default;
  };

  template <class... Args>
  [[noreturn]] void refuse(const Args&... args) const {
    fail(FT_ERROR_INVALID_ARGUMENT, source_->source(), ": ", args...);
  }

  void plan() {
    const std::vector<std::optional<int>> stages = stages_of(table_, options_.pipeline_parallel);
    for (size_t i = 0; i < table_.size(); ++i) {
      const weight_match::entry& e = match_.entries[i];
      if (!e) continue;
      planned_weight w{.spec = e.spec, .view = view_of(e), .stage = stages[i]};
      w.format = &target_format(options_.dtype, *w.view.format);
      w.axis = static_cast<int>(e.spec->split_axis());
      w.pieces = pieces_of(w);
      total_bytes_ += bytes_of(*w.format, w.view.rows, w.view.columns);
      weights_.push_back(std::move(w));
    }
    for (const planned_weight& w : weights_) {
      if (w.pieces == 1) files_[{w.stage, std::nullopt}].push_back(&w);
      for (int rank = 0; w.pieces > 1 && rank < w.pieces; ++rank) files_[{w.stage, rank}].push_back(&w);
    }
  }

  int pieces_of(const planned_weight& w) const {
    const int ranks = pieces_for(*w.spec, options_.tensor_parallel);
    const int64_t length = w.spec->shape[w.spec->split_axis()];
    if (!w.format->may_cut(w.axis, length / ranks))
      refuse("tensor_parallel is ", ranks, ", which would cut the blocks of ", w.spec->name, " (", w.format->name, ", ",
             w.axis == 1 ? w.format->column_unit : w.format->row_unit, " elements); give a dtype to convert them to");
    return ranks;
  }

  void write_file(io::output_folder& folder, const place& at, const std::vector<const planned_weight*>& weights) {
    std::vector<io::safetensors_writer::entry> entries;
    for (const planned_weight* w : weights) entries.push_back({w->spec->name, w->format->data, w->piece_shape()});
    io::safetensors_writer out(folder.add(io::weights_file(at.rank, at.stage)), entries);
    for (const planned_weight* w : weights) {
      const int64_t length = w->spec->shape[static_cast<size_t>(w->axis)] / w->pieces,
                    begin = at.rank.value_or(0) * length;
      write_weight(out, *w, begin, length);
    }
    out.close();
  }

  // Elements begin .. begin + length of the weight along its axis. In pieces of some rows, so that the host never holds
  // a second copy of a large weight.
  void write_weight(io::safetensors_writer& out, const planned_weight& w, int64_t begin, int64_t length) {
    constexpr int64_t most_elements = 1 << 22;
    const bool as_it_is = *w.format == *w.view.format && w.view.scale == 1;
    // What is coded together and is turned into numbers may be cut only after that.
    const bool cut_numbers = w.axis == 1 && !as_it_is;
    const weight_view view = cut_numbers ? w.view : w.view.slice(w.axis, begin, begin + length);
    const int64_t step = std::max<int64_t>(1, most_elements / std::max<int64_t>(view.columns, 1));
    for (int64_t row = 0; row < view.rows; row += step) {
      const weight_view rows = view.slice(0, row, std::min(row + step, view.rows));
      const buffer memory(host_memory(), rows.bytes());
      const stored_weight stored = gather(rows, memory.data());
      const int64_t columns = cut_numbers ? length : rows.columns;
      if (as_it_is)
        out.write(memory.data(), memory.bytes());
      else
        write_numbers(out, w, stored, cut_numbers ? begin : 0, columns);
      done_bytes_ += bytes_of(*w.format, rows.rows, columns);
      if (options_.on_progress) options_.on_progress(done_bytes_, total_bytes_);
    }
  }

  // Of these rows the columns from `first` on, in the new format.
  void write_numbers(io::safetensors_writer& out, const planned_weight& w, const stored_weight& rows, int64_t first,
                     int64_t columns) const {
    const int64_t count = rows.rows() * columns;
    const buffer floats(host_memory(), static_cast<size_t>(count + rows.columns()) * sizeof(float));
    auto *values = floats.as<float>(), *row = values + count;
    for (int64_t i = 0; i < rows.rows(); ++i) {
      rows.expand(i, row);
      for (int64_t k = 0; k < columns; ++k) values[i * columns + k] = row[first + k] * w.view.scale;
    }
    if (w.format->data == dtype::f32) return out.write(values, static_cast<uint64_t>(count) * sizeof(float));
    const buffer halves(host_memory(), static_cast<size_t>(count) * sizeof(uint16_t));
    auto* rounded = halves.as<uint16_t>();
    for (int64_t i = 0; i < count; ++i) {
      rounded[i] = w.format->data == dtype::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
      if (w.format->data == dtype::f16 && (rounded[i] & 0x7fff) == 0x7c00 && std::isfinite(values[i]))
        refuse("the weight ", w.spec->name, " holds ", values[i], ", which is beyond float16; use bfloat16 or float32");
    }
    out.write(rounded, halves.bytes());
  }

  void write_texts(io::output_folder& folder) const {
    for (const auto& file : options_.files) folder.write(file.name, file.contents);
    for (std::string_view name : text_files) {
      const bool given = std::ranges::any_of(options_.files, [&](const auto& file) { return file.name == name; });
      const std::string path = io::join_path(source_->source(), name);
      if (given || !io::file_exists(path)) continue;
      folder.write(name, io::mapped_file::open(path)->text());
    }
  }

  io::json_ptr manifest() const {
    io::json_ptr tree = io::make_json();
    io::json& out = *tree;
    out["format"] = io::manifest_format;
    out["version"] = io::manifest_version;
    out["family"] = config_.family;
    model_config config = config_;
    if (!options_.dtype.empty() && options_.dtype != "auto") config.checkpoint_dtype = options_.dtype;
    io::json& own = out["config"];  // before there is a temporary that nlohmann would free, were this refused
    own = std::move(*config_to_json(config));
    out["tensor_parallel"] = options_.tensor_parallel;
    out["pipeline_parallel"] = options_.pipeline_parallel;
    io::json& files = out["files"] = io::json::value_t::array;
    for (const auto& [at, weights] : files_) {
      io::json& file = files.emplace_back(io::json::value_t::object);
      file["name"] = io::weights_file(at.rank, at.stage);
      if (at.rank) file["rank"] = *at.rank;
      if (at.stage) file["stage"] = *at.stage;
    }
    io::json& weights = out["weights"] = io::json::value_t::object;
    for (const planned_weight& w : weights_) {
      io::json& weight = weights[w.spec->name] = io::json::value_t::object;
      weight["dtype"] = w.format->name;
      weight["shard"] = text(w.spec->shard);
      io::json& shape = weight["shape"] = io::json::value_t::array;
      for (int64_t n : w.spec->shape) shape.push_back(n);
    }
    return tree;
  }

  std::shared_ptr<const io::checkpoint> source_;
  const convert_options& options_;
  model_config config_;
  weight_table table_;
  weight_match match_;
  std::vector<planned_weight> weights_;
  std::map<place, std::vector<const planned_weight*>> files_;
  uint64_t total_bytes_ = 0, done_bytes_ = 0;
};

void check_count(const char* option, int ranks) {
  constexpr int most_ranks = 4096;
  if (ranks < 1 || ranks > most_ranks)
    fail(FT_ERROR_INVALID_ARGUMENT, option, " is ", ranks, "; it must be from 1 to ", most_ranks);
}

}  // namespace

void convert(const std::string& source, const std::string& destination, const convert_options& options) {
  check_count("tensor_parallel", options.tensor_parallel);
  check_count("pipeline_parallel", options.pipeline_parallel);
  target_format(options.dtype, weight_format_of(dtype::f32));
  for (const auto& file : options.files)
    if (!io::is_file_name(file.name) || file.name == io::manifest_file || file.name.ends_with(".safetensors"))
      fail(FT_ERROR_INVALID_ARGUMENT, "'", file.name, "' is no name for a text file beside the weights");
  converter from(io::checkpoint::open(source), options);
  io::output_folder folder(destination, options.overwrite ? io::manifest_file : std::string_view());
  from.write(folder);
  folder.commit();
}

}  // namespace ft::arch
