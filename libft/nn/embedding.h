// A table of vectors looked up by id: words, positions, token types. It is either the plain table or, where it is
// quantised or an output projection shares it, a packed weight.
#pragma once

#include <memory>

#include "nn/batch.h"
#include "nn/parameter.h"
#include "nn/run.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"

namespace ft::nn {

struct embedding {
  std::shared_ptr<const packed_weight> packed;
  parameter table;

  explicit operator bool() const { return packed || table; }

  // From now on id 0 means the plain table's row `count`.
  void skip_rows(int64_t count) { table.view = table.view.slice(0, count, table.view.dim(0)); }

  // out[t] = scale * table[ids[t]]; `chosen` as ops/embedding.h has it
  void forward(run& run, const tensor& ids, const tensor& out, float scale = 1, const tensor& chosen = {}) const {
    ops::embedding(
        run.ex,
        {.out = out, .ids = ids, .chosen = chosen, .packed = packed.get(), .table = table.view, .scale = scale});
  }

  // out[t] += table[ids[t]]
  void add(run& run, const tensor& ids, const tensor& out) const {
    ops::embedding(run.ex, {.out = out, .ids = ids, .packed = packed.get(), .table = table.view, .accumulate = true});
  }
};

// Puts the embeddings that callers gave in the place of their tokens' own, in out [num_tokens, width].
inline void place_embedded(run& run, const ragged_batch& batch, const tensor& out) {
  for (const embedded_rows& given : batch.embedded)
    ops::scale(run.ex,
               {.out = out.slice(0, given.first_token, given.first_token + given.rows.dim(0)), .x = given.rows});
}

}  // namespace ft::nn
