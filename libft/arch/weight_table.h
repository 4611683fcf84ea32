// A family's weights as a table. Loading, sharding, conversion and inspection all read it; nothing guesses from names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"

namespace ft::arch {

// How tensor parallelism splits a weight [out_features, in_features]: column = its outputs, row = its inputs.
enum class shard_axis : uint8_t { none, column, row, vocabulary };

struct weight_spec {
  std::string name;            // libft's own: "layers.3.attention.query.weight"
  std::vector<int64_t> shape;  // as stored
  shard_axis shard = shard_axis::none;
  bool may_quantise = false;
  bool required = true;
  std::vector<std::string> sources;  // the names this checkpoint's format may store it under, tried in order
};

using weight_table = std::vector<weight_spec>;

// A table matched against a checkpoint; points into both, which must outlive it.
struct weight_match {
  struct entry {
    const weight_spec* spec;
    const io::stored_tensor* stored;              // null when absent
    const io::foreign_tensor* foreign = nullptr;  // what is there instead, and cannot be used
  };
  std::vector<entry> entries;                             // one a spec
  std::vector<const io::stored_tensor*> unused;           // stored, but no weight of the table
  std::vector<const io::foreign_tensor*> unused_foreign;  // the same
  const entry* find(std::string_view name) const;         // by libft's name; null when the table has no such weight
};

// Matches without judging; for inspection.
weight_match match(const weight_table& table, const io::checkpoint& source);

// Throws ft::error listing the missing tensors, the wrong shapes and the dtypes that cannot be used together:
// FT_ERROR_CHECKPOINT, or FT_ERROR_UNSUPPORTED when the only fault is that libft lacks what the checkpoint uses.
void require_complete(const weight_match& match, const io::checkpoint& source);

}  // namespace ft::arch
