// Seeded checkpoints of any architecture, in memory: the weight table itself says which tensors to make up.
#pragma once

#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "arch/family.h"
#include "io/checkpoint.h"
#include "io/formats/safetensors_writer.h"
#include "ops/exec.h"
#include "runtime/worker/executor.h"

namespace ft::test {

// Tensors given by name and shape, filled with seeded float32 values around zero (around one for norms).
class checkpoint_builder {
 public:
  explicit checkpoint_builder(std::string config) : config_(std::move(config)) {}

  void add(const std::string& name, const std::vector<int64_t>& shape, dtype type = dtype::f32) {
    int64_t size = 1;
    for (int64_t d : shape) size *= d;
    auto data = std::make_shared<std::vector<float>>(static_cast<size_t>(size));
    const float centre = name.find("orm") != std::string::npos && shape.size() == 1 ? 1.0f : 0.0f;
    for (float& v : *data) v = centre + 0.2f * next();
    tensor t(data->data(), type, {size});
    t.rank = static_cast<int>(shape.size());
    int64_t step = 1;
    for (int i = t.rank - 1; i >= 0; --i) {
      t.shape[static_cast<size_t>(i)] = shape[static_cast<size_t>(i)];
      t.stride[static_cast<size_t>(i)] = step;
      step *= shape[static_cast<size_t>(i)];
    }
    tensors_.push_back({name, t, io::mapped_file::wrap(data->data(), data->size() * sizeof(float), "memory")});
    held_.push_back(std::move(data));
  }

  // A tensor of a dtype that libft lacks.
  void add_foreign(const std::string& name, const std::vector<int64_t>& shape) {
    foreign_.push_back({name, "F8_E4M3", shape, 0, "its dtype F8_E4M3 is not supported", nullptr});
  }

  // What the configuration's own weight table asks for, under the first source of each.
  void add_all() {
    const auto bare = open();
    const arch::family& family = arch::family_of(*bare);
    const arch::weight_table table = family.weights(family.config(*bare), bare->format());
    for (const arch::missing_tensor& t : arch::missing(arch::match(table, *bare))) add(t.name, t.shape);
  }

  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const io::stored_tensor& t) { return t.name == name; });
  }

  // As a Hugging Face folder; all of float32.
  void write(const std::string& folder) const {
    std::ofstream(folder + "/config.json") << config_;
    std::vector<io::safetensors_writer::entry> entries;
    for (const io::stored_tensor& t : tensors_)
      entries.push_back({t.name, dtype::f32, {t.data.shape.data(), t.data.shape.data() + t.data.rank}});
    io::safetensors_writer out(folder + "/model.safetensors", entries);
    for (const io::stored_tensor& t : tensors_) out.write(t.data.data, bytes_of(dtype::f32, t.data.size()));
    out.close();
  }

  std::shared_ptr<const io::checkpoint> open(const io::rank_share& share = {}) const {
    return io::checkpoint::from_parts("tiny",
                                      io::checkpoint_parts{.config = io::parse_json(config_, "tiny/config.json"),
                                                           .config_file = "tiny/config.json",
                                                           .tensors = tensors_,
                                                           .foreign = foreign_,
                                                           .share = share});
  }

 private:
  // A linear congruential generator (Knuth's MMIX constants): the same weights everywhere.
  float next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<float>(static_cast<int32_t>(state_ >> 32)) / 2147483648.0f;
  }

  std::string config_;
  std::vector<io::stored_tensor> tensors_;
  std::vector<io::foreign_tensor> foreign_;
  std::vector<std::shared_ptr<std::vector<float>>> held_;
  uint64_t state_ = 42;
};

inline arch::model_config read_config(const std::string& text) {
  const auto source = checkpoint_builder(text).open();
  return arch::family_of(*source).config(*source);
}

// A built network with what it takes to run it; of a checkpoint that was opened for a rank, the rank's.
class loaded_model {
 public:
  explicit loaded_model(std::shared_ptr<const io::checkpoint> source, dtype compute = dtype::f32, int threads = 2,
                        arch::progress progress = {})
      : executor(cpu_backend(), threads), source_(std::move(source)) {
    config = arch::config_of(*source_);
    table_ = arch::weights_of(config, *source_);
    match = arch::match(table_, *source_);
    arch::require_complete(match, *source_);
    network = arch::family_named(config.family)
                  .build(config, match,
                         {.device = cpu_backend(),
                          .compute = compute,
                          .pool = &executor.pool(),
                          .on_progress = std::move(progress),
                          .share = source_->share()});
  }

  // Hidden states of rows of token ids, one vector a token, row after row.
  std::vector<float> hidden(const std::vector<std::vector<int32_t>>& rows) {
    std::vector<float> result;
    executor.compute([&](nn::run& run) { result = copy(network->hidden(run, upload(run, rows))); });
    return result;
  }

  nn::ragged_batch upload(nn::run& run, const std::vector<std::vector<int32_t>>& rows) const {
    std::vector<int32_t> ids, positions, offsets{0};
    for (const auto& row : rows) {
      for (size_t i = 0; i < row.size(); ++i) positions.push_back(static_cast<int32_t>(i));
      ids.insert(ids.end(), row.begin(), row.end());
      offsets.push_back(static_cast<int32_t>(ids.size()));
    }
    nn::ragged_batch batch;
    batch.num_tokens = static_cast<int64_t>(ids.size());
    batch.num_rows = static_cast<int64_t>(rows.size());
    batch.token_ids = runtime::upload_i32(run, ids);
    batch.positions = runtime::upload_i32(run, positions);
    batch.row_offsets = runtime::upload_i32(run, offsets);
    if (config.tokens.type_vocab_size)
      batch.token_type_ids = runtime::upload_i32(run, std::vector<int32_t>(ids.size(), 0));
    return batch;
  }

  static std::vector<float> copy(const tensor& t) {
    return t ? std::vector<float>(t.as<float>(), t.as<float>() + t.size()) : std::vector<float>();
  }

  runtime::executor executor;
  arch::model_config config;
  arch::weight_match match;
  std::unique_ptr<arch::network> network;

 private:
  std::shared_ptr<const io::checkpoint> source_;
  arch::weight_table table_;
};

inline std::vector<int32_t> seeded_ids(int count, int seed, int vocab_size) {
  std::vector<int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back((seed * 31 + i * 17 + i * i * 7) % vocab_size);
  return ids;
}

}  // namespace ft::test
