// A table of vectors looked up by id: words, positions, token types. It is either the plain table or, where it is
// quantised or an output projection shares it, a packed weight.
#pragma once

#include <memory>

#include "nn/parameter.h"
#include "nn/run.h"
#include "ops/embedding.h"

namespace ft::nn {

struct embedding {
  std::shared_ptr<const packed_weight> packed;
  parameter table;

  explicit operator bool() const { return packed || table; }

  // From now on id 0 means the plain table's row `count`.
  void skip_rows(int64_t count) { table.view = table.view.slice(0, count, table.view.dim(0)); }

  // out[t] = scale * table[ids[t]]
  void forward(run& run, const tensor& ids, const tensor& out, float scale = 1) const {
    ops::embedding(run.ex, {.out = out, .ids = ids, .packed = packed.get(), .table = table.view, .scale = scale});
  }

  // out[t] += table[ids[t]]
  void add(run& run, const tensor& ids, const tensor& out) const {
    ops::embedding(run.ex, {.out = out, .ids = ids, .packed = packed.get(), .table = table.view, .accumulate = true});
  }
};

}  // namespace ft::nn
