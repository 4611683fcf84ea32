// Writes a family's weight table: rows of libft's own name, the checkpoint's name, shape and shard axis.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "arch/config/config.h"
#include "arch/weights/weight_table.h"

namespace ft::arch {

class table_builder {
 public:
  // What the checkpoint's names may begin with, tried in order.
  explicit table_builder(std::vector<std::string> prefixes) : prefixes_(std::move(prefixes)) {}

  // Names that follow stand within these: "layers.3." here, "blk.3." in the file.
  void enter(std::string ours, std::string theirs) {
    ours_ = std::move(ours);
    theirs_ = std::move(theirs);
  }

  // [out_features, in_features], and a bias if it has one; both lie as `layout` says. Returns the matrix's row; good
  // until the next call.
  weight_spec& matrix(std::string_view ours, std::string_view theirs, int64_t out_features, int64_t in_features,
                      shard_axis shard, bool bias, weight_layout layout = {}) {
    // The bias of a row-split matrix is added once, after the ranks' sum.
    if (bias)
      add(ours, ".bias", theirs, ".bias", {out_features}, shard == shard_axis::row ? shard_axis::none : shard, layout);
    weight_spec& spec = add(ours, ".weight", theirs, ".weight", {out_features, in_features}, shard, layout);
    spec.may_quantise = true;
    return spec;
  }

  // Query, key and value stored as one matrix, in `layout`'s groups: attention.query, .key, .value, [hidden, hidden]
  // each.
  void fused_attention(std::string_view theirs, int64_t hidden, bool bias, weight_layout layout) {
    layout.parts = 3;
    for (const char* ours : {"attention.query", "attention.key", "attention.value"}) {
      matrix(ours, theirs, hidden, hidden, shard_axis::column, bias, layout);
      ++layout.part;
    }
  }

  // A language model's embedding [vocab_size, width] and, where it has one of its own, its output projection, under
  // any of the full names `outputs`. Some files of tied models keep the matrix that both share under these alone.
  void vocabulary(const model_config& c, std::string_view embedding, int64_t width, std::vector<std::string> outputs) {
    std::vector<weight_source>& shared =
        matrix("embedding", embedding, c.tokens.vocab_size, width, shard_axis::vocabulary, false).sources;
    if (c.embedding.tied)
      shared.insert(shared.end(), outputs.begin(), outputs.end());
    else if (c.head.kind == head_kind::causal_lm)
      matrix("output", "", c.tokens.vocab_size, width, shard_axis::vocabulary, false)
          .sources.assign(outputs.begin(), outputs.end());
  }

  // A table that is looked up in, never multiplied by.
  void lookup(std::string_view ours, std::string_view theirs, int64_t rows, int64_t width) {
    add(ours, ".weight", theirs, ".weight", {rows, width}, shard_axis::none);
  }

  // RMSNorm has a weight only.
  void rms_norm(std::string_view ours, std::string_view theirs, int64_t width) {
    add(ours, ".weight", theirs, ".weight", {width}, shard_axis::none);
  }

  // LayerNorm's weight and bias; checkpoints from TensorFlow's days call them gamma and beta.
  void layer_norm(std::string_view ours, std::string_view theirs, int64_t width) {
    for (const auto& [suffix, old] : {std::pair{".weight", ".gamma"}, std::pair{".bias", ".beta"}}) {
      weight_spec& spec = add(ours, suffix, theirs, suffix, {width}, shard_axis::none);
      for (const std::string& prefix : prefixes_) spec.sources.push_back(prefix + theirs_ + std::string(theirs) + old);
    }
  }

  weight_spec& add(std::string_view ours, std::string_view suffix, std::string_view theirs,
                   std::string_view their_suffix, std::vector<int64_t> shape, shard_axis shard,
                   weight_layout layout = {}) {
    weight_spec spec{.name = cat(ours_, ours, suffix), .shape = std::move(shape), .shard = shard};
    for (const std::string& prefix : prefixes_)
      spec.sources.push_back({cat(prefix, theirs_, theirs, their_suffix), layout});
    table_.push_back(std::move(spec));
    return table_.back();
  }

  weight_table take() { return std::move(table_); }

 private:
  std::vector<std::string> prefixes_;
  std::string ours_, theirs_;
  weight_table table_;
};

}  // namespace ft::arch
