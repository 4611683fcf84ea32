#include "arch/networks/embedder.h"

namespace ft::arch {

void embedder::forward(nn::run& run, const nn::ragged_batch& batch, const tensor& out) const {
  if (!projection)
    return nn::embed(run, batch, out, *words, scale,
                     {{{&token_types, batch.token_type_ids}, {positions.get(), batch.positions}}}, norm);
  arena::scope scope(run.activations);
  const tensor narrow = run.make({batch.num_tokens, words->width()});
  nn::embed(run, batch, narrow, *words, scale, {}, {});
  projection.forward(run, narrow, out);
  if (positions) positions->add(run, batch.positions, out);
  if (norm) norm.forward(run, out, out);
}

}  // namespace ft::arch
