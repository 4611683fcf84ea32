#include "runtime/step_logits.h"

#include "ops/argmax.h"
#include "ops/edit_logits.h"
#include "ops/log_softmax.h"
#include "ops/rows.h"
#include "ops/sample.h"
#include "ops/sampling_threshold.h"
#include "ops/top_k.h"

namespace ft::runtime {
namespace {

// Everything but whole rows lies in one piece, which is copied at once: where its parts begin, in elements of four
// bytes. First come the candidates' values.
struct layout {
  explicit layout(const logit_rows& rows)
      : candidates(rows.first_sampled() - rows.first_candidates()),
        index(candidates * rows.num_candidates),
        log_sum(2 * index),
        token(log_sum + candidates),
        log_prob(token + rows.cut + rows.sampled),
        logit(log_prob + rows.cut + rows.sampled),
        best(logit + rows.cut + rows.sampled),
        next(best + rows.best),
        size(next + rows.next_beams * beam_choice_size) {}

  int64_t candidates;  // rows of them
  int64_t index, log_sum, token, log_prob, logit, best, next, size;
};

tensor part(const tensor& all, dtype type, int64_t begin, std::initializer_list<int64_t> shape) {
  return tensor(all.as<int32_t>() + begin, type, shape);
}

void grow(buffer& b, backend& device, int64_t elements) {
  const size_t bytes = bytes_of(dtype::f32, elements);
  if (bytes > b.bytes()) b = buffer(device.transfer_memory(), bytes);
}

// What settings do to the logits, and what is left of each row then.
void choose(exec& ex, const tensor& logits, const tensor& chosen, const logit_plan& plan, const tensor& scores,
            const tensor& chosen_before) {
  const logit_rows& rows = plan.rows();
  const layout at(rows);
  const int64_t n = at.candidates, k = rows.num_candidates;
  if (rows.log_probabilities + rows.beam_candidates > 0) {
    const tensor x = logits.slice(0, rows.logits, rows.first_candidates() + rows.beam_candidates);
    ops::log_softmax(ex, {.out = x, .x = x});
  }
  if (rows.num_edits > 0)
    ops::edit_logits(ex, {.x = logits,
                          .edits = plan.edits,
                          .penalties = plan.penalties,
                          .chosen = chosen_before,
                          .late = plan.late_edits});
  if (n > 0)
    ops::top_k(ex, {.value = part(chosen, dtype::f32, 0, {n, k}),
                    .index = part(chosen, dtype::i32, at.index, {n, k}),
                    .log_sum = part(chosen, dtype::f32, at.log_sum, {n}),
                    .x = logits.slice(0, rows.first_candidates(), rows.first_sampled()),
                    .temperature = plan.temperatures.slice(0, 0, n)});
  if (rows.next_beams > 0) {
    const int64_t first = rows.beam_candidates, end = first + rows.next_beams;
    ops::choose_beams(ex, {.next = part(chosen, dtype::i32, at.next, {rows.next_beams, beam_choice_size}),
                           .value = part(chosen, dtype::f32, 0, {n, k}).slice(0, first, end),
                           .index = part(chosen, dtype::i32, at.index, {n, k}).slice(0, first, end),
                           .log_sum = part(chosen, dtype::f32, at.log_sum, {n}).slice(0, first, end),
                           .score = scores,
                           .row = plan.beam_rows,
                           .offsets = plan.beam_offsets,
                           .stops = plan.beam_stops});
  }
  const auto draw = [&](int64_t first, int64_t count, const tensor& least, const tensor& last) {
    const auto drawn = [&](dtype type, int64_t begin) { return part(chosen, type, begin + first, {count}); };
    const int64_t row = rows.first_cut() + first, with_temperature = n - rows.cut + first;
    ops::sample(ex, {.token = drawn(dtype::i32, at.token),
                     .log_prob = drawn(dtype::f32, at.log_prob),
                     .logit = drawn(dtype::f32, at.logit),
                     .x = logits.slice(0, row, row + count),
                     .uniform = plan.uniforms.slice(0, first, first + count),
                     .temperature = plan.temperatures.slice(0, with_temperature, with_temperature + count),
                     .least = least,
                     .last = last});
  };
  if (rows.cut > 0) {
    arena::scope scope(ex.scratch);
    const tensor least = ex.scratch.make(dtype::f32, {rows.cut}), last = ex.scratch.make(dtype::i32, {rows.cut});
    ops::sampling_threshold(ex, {.least = least,
                                 .last = last,
                                 .x = logits.slice(0, rows.first_cut(), rows.first_sampled()),
                                 .value = part(chosen, dtype::f32, 0, {n, k}).slice(0, n - rows.cut, n),
                                 .index = part(chosen, dtype::i32, at.index, {n, k}).slice(0, n - rows.cut, n),
                                 .log_sum = part(chosen, dtype::f32, at.log_sum, {n}).slice(0, n - rows.cut, n),
                                 .temperature = plan.temperatures.slice(0, n - rows.cut, n),
                                 .by = plan.cuts});
    draw(0, rows.cut, least, last);
  }
  if (rows.sampled > 0) draw(rows.cut, rows.sampled, {}, {});
  if (rows.best > 0)
    ops::argmax(ex, {.out = part(chosen, dtype::i32, at.best, {rows.best}),
                     .x = logits.slice(0, rows.first_best(), rows.total())});
}

}  // namespace

logit_results step_logits::compute(nn::run& run, const arch::network& network, const tensor& hidden,
                                   const logit_plan& plan, const tensor& scores, const tensor& chosen) {
  const logit_rows& rows = plan.rows();
  if (rows.total() == 0) return {};
  const tensor last = run.make({rows.total(), hidden.dim(1)});
  ops::gather_rows(run.ex, {.out = last, .x = hidden, .index = plan.tokens});
  logit_results made;
  made.logits = network.logits(run, last);
  FT_CHECK(made.logits.contiguous());
  if (const int64_t size = layout(rows).size; size > 0) made.chosen = chosen.slice(0, 0, size);
  choose(run.ex, made.logits, made.chosen, plan, scores, chosen);
  return made;
}

int64_t step_logits::most_chosen(int64_t rows) {
  return layout({.next_beams = rows, .num_candidates = logit_plan::most_candidates}).size;
}

void step_logits::expect(backend& device, const logit_rows& rows, int64_t vocab_size) {
  rows_ = rows;
  vocab_size_ = static_cast<size_t>(vocab_size);
  grow(whole_, device, rows.first_candidates() * vocab_size);
  grow(chosen_, device, layout(rows).size);
}

void step_logits::download(nn::run& run, const logit_results& made) {
  const auto copy = [&](const buffer& to, const tensor& from) {
    if (from && from.size() > 0) run.ex.download_later(to.data(), from.data, bytes_of(from.type, from.size()));
  };
  if (made.logits) copy(whole_, made.logits.slice(0, 0, rows_.first_candidates()));
  copy(chosen_, made.chosen);
}

std::span<float> step_logits::whole(int32_t row) {
  return {whole_.as<float>() + static_cast<size_t>(row) * vocab_size_, vocab_size_};
}

decode::candidate_row step_logits::candidates(int32_t row) const {
  const layout at(rows_);
  const int64_t i = row - rows_.first_candidates(), first = i * rows_.num_candidates;
  const auto count = static_cast<size_t>(rows_.num_candidates);
  decode::candidate_row found{{chosen_.as<float>() + first, count}, {chosen_.as<int32_t>() + at.index + first, count}};
  if (i >= rows_.beam_candidates) {  // else these are log-probabilities
    found.highest = found.logits[0];
    found.log_sum = chosen_.as<float>()[at.log_sum + i];
  }
  return found;
}

decode::sampler::choice step_logits::sampled(int32_t row) const {
  const layout at(rows_);
  const int64_t i = row - rows_.first_cut();
  return {chosen_.as<int32_t>()[place_of_choice(row)], chosen_.as<float>()[at.log_prob + i]};
}

float step_logits::raw_log_probability(int32_t row) const {
  const layout at(rows_);
  const int64_t i = row - rows_.first_candidates();
  const auto* found = chosen_.as<float>();
  return found[at.logit + row - rows_.first_cut()] - found[i * rows_.num_candidates] - found[at.log_sum + i];
}

int32_t step_logits::place_of_choice(int32_t row) const {
  const layout at(rows_);
  const auto place = [&] {
    if (has_next_beam(row)) return at.next + (row - rows_.first_next_beam()) * beam_choice_size;
    if (has_candidates(row)) return at.index + (row - rows_.first_candidates()) * rows_.num_candidates;
    return is_sampled(row) ? at.token + row - rows_.first_cut() : at.best + row - rows_.first_best();
  };
  return static_cast<int32_t>(place());
}

int32_t step_logits::best(int32_t row) const { return chosen_.as<int32_t>()[place_of_choice(row)]; }

beam_choice step_logits::next_beam(int32_t row) const {
  return *reinterpret_cast<const beam_choice*>(chosen_.as<int32_t>() + place_of_choice(row));
}

}  // namespace ft::runtime
