#include "runtime/step_logits.h"

#include "ops/argmax.h"
#include "ops/log_softmax.h"
#include "ops/rows.h"
#include "ops/top_k.h"

namespace ft::runtime {
namespace {

// Everything but whole rows lies in one piece, which is copied at once.
struct layout {
  explicit layout(const logit_rows& rows)
      : index(rows.candidates * rows.num_candidates),
        log_sum(2 * index),
        best(log_sum + rows.candidates),
        size(best + rows.best) {}

  // Elements of four bytes before: the candidates' logits come first.
  int64_t index, log_sum, best, size;
};

tensor part(const tensor& all, dtype type, int64_t begin, std::initializer_list<int64_t> shape) {
  return tensor(all.as<int32_t>() + begin, type, shape);
}

void grow(buffer& b, backend& device, int64_t elements) {
  const size_t bytes = bytes_of(dtype::f32, elements);
  if (bytes > b.bytes()) b = buffer(device.transfer_memory(), bytes);
}

}  // namespace

logit_results step_logits::compute(nn::run& run, const arch::network& network, const tensor& hidden,
                                   const tensor& index, const logit_rows& rows) {
  const tensor last = run.make({rows.total(), hidden.dim(1)});
  ops::gather_rows(run.ex, {.out = last, .x = hidden, .index = index});
  const tensor logits = network.logits(run, last);
  FT_CHECK(logits.contiguous());
  if (rows.log_probabilities > 0) {
    const tensor x = logits.slice(0, 0, rows.log_probabilities);
    ops::log_softmax(run.ex, {.out = x, .x = x});
  }
  logit_results made;
  if (rows.whole() > 0) made.whole = logits.slice(0, 0, rows.whole());
  const layout at(rows);
  if (at.size > 0) made.chosen = run.activations.make(dtype::i32, {at.size});
  const int64_t n = rows.candidates, k = rows.num_candidates, first_best = rows.whole() + n;
  if (n > 0)
    ops::top_k(run.ex, {.value = part(made.chosen, dtype::f32, 0, {n, k}),
                        .index = part(made.chosen, dtype::i32, at.index, {n, k}),
                        .log_sum = part(made.chosen, dtype::f32, at.log_sum, {n}),
                        .x = logits.slice(0, rows.whole(), first_best)});
  if (rows.best > 0)
    ops::argmax(run.ex, {.out = part(made.chosen, dtype::i32, at.best, {rows.best}),
                         .x = logits.slice(0, first_best, rows.total())});
  return made;
}

void step_logits::expect(backend& device, const logit_rows& rows, int64_t vocab_size) {
  rows_ = rows;
  vocab_size_ = static_cast<size_t>(vocab_size);
  grow(whole_, device, rows.whole() * vocab_size);
  grow(chosen_, device, layout(rows).size);
}

void step_logits::download(nn::run& run, const logit_results& made) {
  for (const auto& [to, from] : {std::pair(&whole_, made.whole), std::pair(&chosen_, made.chosen)})
    if (from) run.ex.download(to->data(), from.data, bytes_of(from.type, from.size()));
}

std::span<float> step_logits::whole(int32_t row) const {
  return {whole_.as<float>() + static_cast<size_t>(row) * vocab_size_, vocab_size_};
}

decode::candidate_row step_logits::candidates(int32_t row) const {
  const layout at(rows_);
  const int64_t i = row - rows_.whole(), first = i * rows_.num_candidates;
  const auto count = static_cast<size_t>(rows_.num_candidates);
  return {{chosen_.as<float>() + first, count},
          {chosen_.as<int32_t>() + at.index + first, count},
          chosen_.as<float>()[at.log_sum + i]};
}

int32_t step_logits::best(int32_t row) const {
  return chosen_.as<int32_t>()[layout(rows_).best + row - rows_.whole() - rows_.candidates];
}

}  // namespace ft::runtime
