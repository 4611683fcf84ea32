#include "arch/networks/embedder.h"

namespace ft::arch {

void embedder::forward(nn::run& run, const nn::inputs& in, const tensor& out) const {
  if (in.pixels)
    fail(FT_ERROR_UNSUPPORTED, "pixels are given, but this model has no vision tower; give token ids or embeddings");
  if (!projection)
    return nn::embed(run, in, out, *words, scale,
                     {{{&token_types, in.token_type_ids}, {positions.get(), in.positions}}}, norm);
  arena::scope scope(run.activations);
  const tensor narrow = run.make({in.num_tokens, words->width()});
  nn::embed(run, in, narrow, *words, scale, {}, {});
  projection.forward(run, narrow, out);
  if (positions) positions->add(run, in.positions, out);
  if (norm) norm.forward(run, out, out);
}

}  // namespace ft::arch
