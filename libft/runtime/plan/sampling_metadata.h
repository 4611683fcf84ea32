// What a step wants of its logits: of each row that follows a sequence no more than its request needs, since whole rows
// are as long as the vocabulary and the host is far away; and what the device needs to know for that (edits by
// penalties and bans, temperatures, random numbers). Plain data, made by scheduler/sampling_composer.h and carried out
// by worker/sampling.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/logit_edit.h"
#include "decode/device_choice.h"

namespace ft::runtime {

// The ways in which a row of logits is used, in the order in which the rows of a step lie.
enum class logits_use : uint8_t {
  whole,              // the row goes to the host
  log_probabilities,  // the row goes to the host after log_softmax
  beam_candidates,    // the best of the row after log_softmax and edits
  next_beams,         // the best of the row, and which continuations of its search go on
  candidates,         // the best of the row after edits
  thresholded,        // a token drawn from what top-k, top-p and min-p leave; and candidates for that
  sampled,            // a token drawn from the whole row
  best                // the index of the highest after edits
};
inline constexpr size_t num_logits_uses = 8;

// What is done to a row and what of it is kept, by its use: the one table that says so.
struct use_properties {
  bool to_host = false;      // the whole row is copied to the host, which edits it and chooses
  bool log_softmax = false;  // the row becomes log-probabilities
  bool candidates = false;   // top_k's values, indices and sum
  bool next_beam = false;    // a beam_choice
  bool drawn = false;        // a token, its log-probability and its logit
  bool best = false;         // a token
};
inline constexpr std::array<use_properties, num_logits_uses> properties_of_uses = {{
    /* whole             */ {.to_host = true},
    /* log_probabilities */ {.to_host = true, .log_softmax = true},
    /* beam_candidates   */ {.log_softmax = true, .candidates = true},
    /* next_beams        */ {.candidates = true, .next_beam = true},
    /* candidates        */ {.candidates = true},
    /* thresholded       */ {.candidates = true, .drawn = true},
    /* sampled           */ {.drawn = true},
    /* best              */ {.best = true},
}};

struct row_range {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
  bool contains(int64_t row) const { return begin <= row && row < end; }
  auto operator<=>(const row_range&) const = default;
};

// Whatever decides which operations a step's sampling runs and where they read.
struct sampling_shape {
  std::array<int32_t, num_logits_uses> rows{};  // of each use
  int32_t num_candidates = 0;                   // that each row which has any gets
  int32_t num_edits = 0;                        // those that are none among them
  int32_t num_late = 0;                         // edits of tokens that are yet to be read: one a row, or 0
  int32_t num_groups = 0;                       // of the next beams: searches
  int32_t num_stops = 0;                        // of each search, those that are none among them
  auto operator<=>(const sampling_shape&) const = default;

  // The rows of one use.
  row_range rows_of(logits_use use) const {
    int64_t begin = 0;
    for (size_t i = 0; i < static_cast<size_t>(use); ++i) begin += rows[i];
    return {begin, begin + rows[static_cast<size_t>(use)]};
  }
  // The rows whose use has a property: neighbours, by the order of the table.
  row_range rows_with(bool use_properties::* property) const {
    size_t first = 0;
    while (!(properties_of_uses[first].*property)) ++first;
    size_t last = first;
    while (last + 1 < num_logits_uses && properties_of_uses[last + 1].*property) ++last;
    return {rows_of(static_cast<logits_use>(first)).begin, rows_of(static_cast<logits_use>(last)).end};
  }
  int64_t total() const { return rows_of(logits_use::best).end; }
};

constexpr bool lie_side_by_side(bool use_properties::* property) {
  int runs = 0;
  for (size_t i = 0; i < num_logits_uses; ++i)
    runs += properties_of_uses[i].*property && (i == 0 || !(properties_of_uses[i - 1].*property));
  return runs == 1;
}
static_assert(lie_side_by_side(&use_properties::to_host) && lie_side_by_side(&use_properties::log_softmax) &&
              lie_side_by_side(&use_properties::candidates) && lie_side_by_side(&use_properties::next_beam) &&
              lie_side_by_side(&use_properties::drawn) && lie_side_by_side(&use_properties::best));

// Everything that is chosen but for whole rows lies in one piece, which is copied at once: where its parts begin, in
// elements of four bytes.
struct choice_layout {
  explicit choice_layout(const sampling_shape& s)
      : candidates(s.rows_with(&use_properties::candidates)),
        next_beams(s.rows_with(&use_properties::next_beam)),
        drawn(s.rows_with(&use_properties::drawn)),
        best(s.rows_with(&use_properties::best)),
        value_at(0),
        index_at(candidates.size() * s.num_candidates),
        log_sum_at(2 * index_at),
        token_at(log_sum_at + candidates.size()),
        log_prob_at(token_at + drawn.size()),
        logit_at(log_prob_at + drawn.size()),
        best_at(logit_at + drawn.size()),
        next_at(best_at + best.size()),
        size(next_at + next_beams.size() * beam_choice_size) {}

  row_range candidates, next_beams, drawn, best;  // the rows that have them
  int64_t value_at, index_at;                     // [candidates, num_candidates] f32, i32
  int64_t log_sum_at;                             // [candidates] f32
  int64_t token_at, log_prob_at, logit_at;        // [drawn] i32, f32, f32
  int64_t best_at;                                // [best] i32
  int64_t next_at;                                // [next_beams] beam_choice
  int64_t size;
};

// The most elements that so many rows can be given.
inline int64_t most_choice_elements(int64_t rows) {
  sampling_shape s;
  s.rows[static_cast<size_t>(logits_use::next_beams)] = static_cast<int32_t>(rows);
  s.num_candidates = most_candidates;
  return choice_layout(s).size;
}

// One late edit a row, where any row has one.
struct sampling_metadata {
  sampling_shape shape;
  std::vector<int32_t> tokens;              // [rows]: which tokens of the step the logits follow
  std::vector<logit_edit> edits;            // [num_edits]
  std::vector<logit_penalties> penalties;   // [rows], or none where there are no edits
  std::vector<late_edit> late_edits;        // [num_late]
  std::vector<float> temperatures;          // [candidates + sampled], in the order of rows
  std::vector<double> uniforms;             // [drawn]
  std::vector<sampling_limits> thresholds;  // [thresholded]
  std::vector<int32_t> beam_rows;           // [next_beams]: which rows of the step they are
  std::vector<int32_t> beam_offsets;        // [num_groups + 1], of the next beams
  std::vector<int32_t> beam_stops;          // [num_groups, num_stops]; -1 is none
  std::vector<float> scores;                // [rows of the step], of beams whose parents are known; or none

  // visit(name, array) for each array; `Metadata` may be const.
  template <class Metadata, class Visit>
  static void visit_arrays(Metadata& m, Visit&& visit) {
    visit("tokens", m.tokens);
    visit("edits", m.edits);
    visit("penalties", m.penalties);
    visit("late_edits", m.late_edits);
    visit("temperatures", m.temperatures);
    visit("uniforms", m.uniforms);
    visit("thresholds", m.thresholds);
    visit("beam_rows", m.beam_rows);
    visit("beam_offsets", m.beam_offsets);
    visit("beam_stops", m.beam_stops);
    visit("scores", m.scores);
  }
};

}  // namespace ft::runtime
