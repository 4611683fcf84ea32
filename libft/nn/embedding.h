// A table of vectors looked up by id: words, positions, token types. It is either the plain table or, where it is
// quantised or an output projection shares it, a packed weight.
#pragma once

#include <array>
#include <memory>

#include "nn/batch.h"
#include "nn/norm.h"
#include "nn/parameter.h"
#include "nn/run.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"

namespace ft::nn {

struct embedding {
  std::shared_ptr<const packed_weight> packed;
  parameter table;
  int64_t first_row = 0;  // of the whole table, where this is a rank's share: ids of other ranks' rows give zeros

  explicit operator bool() const { return packed || table; }

  int64_t width() const { return packed ? packed->in_features : table.view.dim(1); }

  // From now on id 0 means the plain table's row `count`.
  void skip_rows(int64_t count) { table.view = table.view.slice(0, count, table.view.dim(0)); }

  // As one of an operation's lookups (ops/embedding.h).
  embedding_args lookup(const tensor& ids, float scale = 1, const tensor& chosen = {}) const {
    return {.ids = ids,
            .chosen = chosen,
            .packed = packed.get(),
            .table = table.view,
            .first_row = first_row,
            .scale = scale};
  }

  // out[t] = scale * table[ids[t]]
  void forward(run& run, const tensor& ids, const tensor& out, float scale = 1, const tensor& chosen = {}) const {
    embedding_args a = lookup(ids, scale, chosen);
    a.out = out;
    ops::embedding(run.ex, a);
  }

  // out[t] += table[ids[t]]
  void add(run& run, const tensor& ids, const tensor& out) const {
    embedding_args a = lookup(ids);
    a.out = out;
    a.accumulate = true;
    ops::embedding(run.ex, a);
  }
};

// Puts the embeddings that callers gave in the place of their tokens' own, in out [num_tokens, width].
inline void place_embedded(run& run, const inputs& in, const tensor& out) {
  for (const embedded_rows& given : in.embedded)
    ops::scale(run.ex,
               {.out = out.slice(0, given.first_token, given.first_token + given.rows.dim(0)), .x = given.rows});
}

// Tables whose rows are added to the words'.
struct summed_embedding {
  const embedding* table = nullptr;  // null, or empty: none
  tensor ids;
};

// out = norm(scale * words + others), with the embeddings that callers gave in the place of words; norm may be empty.
// Tensor ranks share out the rows of `words`; of the others each has all.
inline void embed(run& run, const inputs& in, const tensor& out, const embedding& words, float scale,
                  const std::array<summed_embedding, 2>& others, const norm& then) {
  const auto has = [](const summed_embedding& s) { return s.table && *s.table; };
  if (in.embedded.empty() && !run.tensor_ranks) {
    embedding_sum_args a{.out = out, .lookups = {words.lookup(in.token_ids, scale, in.chosen)}};
    for (size_t i = 0; i < others.size(); ++i)
      if (has(others[i])) a.lookups[i + 1] = others[i].table->lookup(others[i].ids);
    if (then) a.norm = then.args();
    return ops::embedding_sum(run.ex, a);
  }
  words.forward(run, in.token_ids, out, scale, in.chosen);
  run.join(out);
  place_embedded(run, in, out);
  for (const summed_embedding& s : others)
    if (has(s)) s.table->add(run, s.ids, out);
  if (then) then.forward(run, out, out);
}

}  // namespace ft::nn
