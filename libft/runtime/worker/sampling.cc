#include "runtime/worker/sampling.h"

#include <span>

#include "ops/argmax.h"
#include "ops/beams.h"
#include "ops/edit_logits.h"
#include "ops/log_softmax.h"
#include "ops/sample.h"
#include "ops/sampling_threshold.h"
#include "ops/top_k.h"

namespace ft::runtime {
namespace {

tensor part(const tensor& all, dtype type, int64_t begin, std::initializer_list<int64_t> shape) {
  return tensor(all.as<int32_t>() + begin, type, shape);
}

tensor rows_of(const tensor& x, const row_range& rows) { return x.slice(0, rows.begin, rows.end); }

// Where a range of rows lies within another.
row_range within(const row_range& rows, const row_range& all) { return {rows.begin - all.begin, rows.end - all.begin}; }

// What top_k leaves of the rows that have candidates.
struct best_of_rows {
  tensor value, index, log_sum;

  best_of_rows of(const row_range& rows) const {
    return {rows_of(value, rows), rows_of(index, rows), rows_of(log_sum, rows)};
  }
};

}  // namespace

void sampling_inputs::stage(staged_upload& upload, const sampling_metadata& m) {
  const auto size = [](const auto& array) { return static_cast<int64_t>(array.size()); };
  shape = m.shape;
  upload.add(edits, dtype::i32, {size(m.edits), 3}, m.edits);
  upload.add(penalties, dtype::f32, {size(m.penalties), 3}, m.penalties);
  upload.add(late_edits, dtype::i32, {size(m.late_edits), 2}, m.late_edits);
  upload.add(temperatures, dtype::f32, {size(m.temperatures)}, m.temperatures);
  upload.add(uniforms, dtype::f64, {size(m.uniforms)}, m.uniforms);
  upload.add(thresholds, dtype::f64, {size(m.thresholds), 3}, m.thresholds);
  upload.add(beam_rows, dtype::i32, {size(m.beam_rows)}, m.beam_rows);
  upload.add(beam_offsets, dtype::i32, {size(m.beam_offsets)}, m.beam_offsets);
  upload.add(beam_stops, dtype::i32, {m.shape.num_groups, m.shape.num_stops}, m.beam_stops);
  upload.add(scores, dtype::f32, {size(m.scores)}, m.scores);
}

void choose(nn::run& run, const tensor& logits, const tensor& chosen, const sampling_inputs& in) {
  exec& ex = run.ex;
  const choice_layout at(in.shape);
  const int64_t n = at.candidates.size(), k = in.shape.num_candidates;
  if (const row_range rows = in.shape.rows_with(&use_properties::log_softmax); rows.size() > 0) {
    const tensor x = rows_of(logits, rows);
    ops::log_softmax(ex, {.out = x, .x = x});
  }
  if (in.shape.num_edits > 0)
    ops::edit_logits(
        ex, {.x = logits, .edits = in.edits, .penalties = in.penalties, .chosen = chosen, .late = in.late_edits});
  const best_of_rows best = n == 0 ? best_of_rows{}
                                   : best_of_rows{part(chosen, dtype::f32, at.value_at, {n, k}),
                                                  part(chosen, dtype::i32, at.index_at, {n, k}),
                                                  part(chosen, dtype::f32, at.log_sum_at, {n})};
  if (n > 0)
    ops::top_k(ex, {.value = best.value,
                    .index = best.index,
                    .log_sum = best.log_sum,
                    .x = rows_of(logits, at.candidates),
                    .temperature = in.temperatures.slice(0, 0, n)});
  if (at.next_beams.size() > 0) {
    const best_of_rows of_beams = best.of(within(at.next_beams, at.candidates));
    ops::choose_beams(ex, {.next = part(chosen, dtype::i32, at.next_at, {at.next_beams.size(), beam_choice_size}),
                           .value = of_beams.value,
                           .index = of_beams.index,
                           .log_sum = of_beams.log_sum,
                           .score = in.scores,
                           .row = in.beam_rows,
                           .offsets = in.beam_offsets,
                           .stops = in.beam_stops});
  }
  const auto draw = [&](const row_range& rows, const tensor& least, const tensor& last) {
    const row_range drawn = within(rows, at.drawn);
    const auto to = [&](dtype type, int64_t begin) { return part(chosen, type, begin + drawn.begin, {rows.size()}); };
    ops::sample(ex, {.token = to(dtype::i32, at.token_at),
                     .log_prob = to(dtype::f32, at.log_prob_at),
                     .logit = to(dtype::f32, at.logit_at),
                     .x = rows_of(logits, rows),
                     .uniform = rows_of(in.uniforms, drawn),
                     .temperature = rows_of(in.temperatures, within(rows, at.candidates)),
                     .least = least,
                     .last = last});
  };
  if (const row_range rows = in.shape.rows_of(logits_use::thresholded); rows.size() > 0) {
    arena::scope scope(ex.scratch);
    const tensor least = ex.scratch.make(dtype::f32, {rows.size()}), last = ex.scratch.make(dtype::i32, {rows.size()});
    const row_range among = within(rows, at.candidates);
    const best_of_rows of_rows = best.of(among);
    ops::sampling_threshold(ex, {.least = least,
                                 .last = last,
                                 .x = rows_of(logits, rows),
                                 .value = of_rows.value,
                                 .index = of_rows.index,
                                 .log_sum = of_rows.log_sum,
                                 .temperature = rows_of(in.temperatures, among),
                                 .by = in.thresholds});
    draw(rows, least, last);
  }
  if (const row_range rows = in.shape.rows_of(logits_use::sampled); rows.size() > 0) draw(rows, {}, {});
  if (at.best.size() > 0)
    ops::argmax(ex, {.out = part(chosen, dtype::i32, at.best_at, {at.best.size()}), .x = rows_of(logits, at.best)});
}

}  // namespace ft::runtime
