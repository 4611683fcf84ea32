// A family's weights as a table. Loading, sharding, conversion and inspection all read it; nothing guesses from names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/checkpoint.h"

namespace ft::arch {

// A part [begin, end) of things that are numbered.
struct part_of {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
};

// How tensor parallelism splits a weight [out_features, in_features]: column = its outputs, row = its inputs.
enum class shard_axis : uint8_t { none, column, row, vocabulary };

// How a weight lies in a stored tensor. The default is as itself: [out_features, in_features], or [n] for a vector.
struct weight_layout {
  bool transposed = false;  // a matrix stored [in, out]: GPT-2's Conv1D, FasterTransformer
  bool flat = false;        // stored without its shape, as one axis: FasterTransformer's headerless files
  // Several weights fused in one tensor, whose outputs are [groups][parts][outputs of a group]; this one is `part`.
  // GPT-2 stores query, key and value in one group; BLOOM and GPT-NeoX in one a head.
  int64_t groups = 1;
  int64_t parts = 1;
  int64_t part = 0;
  // A bias that every rank adds to the ranks' sum is stored divided by their number; `scale` makes it whole again.
  bool divided = false;
  float scale = 1;
  bool as_row = false;  // a vector stored [1, n]
};

// Where a weight may be stored. Several pieces are shards that the ranks of a tensor-parallel run saved, in order: each
// holds an equal share of the weight's inputs (shard_axis::row) or of its outputs (else), and the layout is a piece's.
struct weight_source {
  std::vector<std::string> pieces;  // names of stored tensors
  weight_layout layout;
  bool is_share = false;  // holds the rank's share of the weight alone

  weight_source(std::string name, weight_layout layout = {}) : pieces{std::move(name)}, layout(layout) {}
  weight_source(const char* name) : pieces{name} {}
  static weight_source joined(std::vector<std::string> pieces, weight_layout layout = {}) {
    weight_source source("", layout);
    source.pieces = std::move(pieces);
    return source;
  }
};

// Mixtures of experts would be one row a matrix and expert, sharded by a further axis `expert`; files that stack the
// experts of a layer are one more layout of a source.
struct weight_spec {
  std::string name;            // libft's own: "layers.3.attention.query.weight"
  std::vector<int64_t> shape;  // the weight's own, however it is stored
  shard_axis shard = shard_axis::none;
  bool may_quantise = false;
  bool required = true;
  std::vector<weight_source> sources;  // what this checkpoint's format may store it under, tried in order

  std::optional<part_of> share;  // of the elements along the shard axis, those that are wanted; nothing: all

  size_t split_axis() const { return shard == shard_axis::row && shape.size() == 2 ? 1 : 0; }
  int64_t share_begin() const { return share ? share->begin : 0; }
  int64_t share_end() const { return share ? share->end : shape[split_axis()]; }
  // The shape of each stored tensor of `source`; empty when the weight cannot be cut into its pieces and groups.
  std::vector<int64_t> stored_shape(const weight_source& source) const;
};

using weight_table = std::vector<weight_spec>;

// Makes the sources of split weights those of `ranks` ranks: "name" becomes "name.0", "name.1", ..., and groups are
// dealt out. FasterTransformer splits no vocabulary.
void split_sources(weight_table& table, int ranks, bool vocabulary);

// A table matched against a checkpoint; points into both, which must outlive it.
struct weight_match {
  struct piece {
    const io::stored_tensor* stored = nullptr;    // null when missing
    const io::foreign_tensor* foreign = nullptr;  // what is there instead, and cannot be used
    explicit operator bool() const { return stored || foreign; }
  };
  struct entry {
    const weight_spec* spec = nullptr;
    const weight_source* source = nullptr;  // null when absent
    std::vector<piece> pieces{};            // one a piece of the source

    explicit operator bool() const { return source != nullptr; }
  };
  std::vector<entry> entries;                             // one a spec
  std::unordered_map<std::string_view, size_t> index;     // of an entry, by libft's name, which the table holds
  std::vector<const io::stored_tensor*> unused;           // stored, but no weight of the table
  std::vector<const io::foreign_tensor*> unused_foreign;  // the same
  const entry* find(std::string_view name) const;         // by libft's name; null when the table has no such weight
};

// Matches without judging; for inspection.
weight_match match(const weight_table& table, const io::checkpoint& source);

// A stored tensor that a required weight lacks, under the name looked for first. Fused weights lack theirs together.
struct missing_tensor {
  std::string name;
  std::vector<int64_t> shape;
};
std::vector<missing_tensor> missing(const weight_match& match);

// Throws ft::error listing the missing tensors, the wrong shapes and the dtypes that cannot be used together:
// FT_ERROR_CHECKPOINT, or FT_ERROR_UNSUPPORTED when the only fault is that libft lacks what the checkpoint uses.
void require_complete(const weight_match& match, const io::checkpoint& source);

}  // namespace ft::arch
