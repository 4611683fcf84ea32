#include "runtime/plan/plan_check.h"

#include <algorithm>
#include <limits>

#include "core/status.h"
#include "decode/options.h"

namespace ft::runtime {
namespace {

void require(bool holds, const char* what) {
  if (!holds) fail(FT_ERROR_INTERNAL, "a plan that another rank sent is no plan: ", what);
}

template <class T>
int64_t size_of(const std::vector<T>& array) {
  return static_cast<int64_t>(array.size());
}

bool lie_in(const std::vector<int32_t>& numbers, int64_t least, int64_t end) {
  return std::ranges::all_of(numbers, [=](int32_t x) { return least <= x && x < end; });
}
constexpr int64_t any = std::numeric_limits<int64_t>::max();

// From 0 to `end`, each greater than the one before.
bool divide(const std::vector<int32_t>& offsets, int64_t end) {
  return !offsets.empty() && offsets.front() == 0 && offsets.back() == end &&
         std::ranges::adjacent_find(offsets, std::ranges::greater_equal{}) == offsets.end();
}

// A table with a line for each row has as many numbers in each, and no rows no table.
bool is_table(const std::vector<int32_t>& table, int64_t rows) {
  return rows == 0 ? table.empty() : size_of(table) % rows == 0;
}

int64_t last_position(const std::vector<int32_t>& positions) {
  return positions.empty() ? -1 : std::ranges::max(positions);
}

// Of `count` rows of values each has as many, at least one.
bool share_evenly(const std::vector<float>& values, int64_t count) {
  return count == 0 ? values.empty() : !values.empty() && size_of(values) % count == 0;
}

int64_t num_embedded(const embedded_tokens& e) {
  int64_t count = 0;
  for (const embedded_span& s : e.spans) count += s.count;
  return count;
}

void check_embedded(const embedded_tokens& e, int64_t tokens) {
  int64_t end = 0;
  for (const embedded_span& s : e.spans) {
    require(s.first_token >= end && s.count > 0, "spans of embeddings that do not rise");
    end = int64_t{s.first_token} + s.count;
  }
  require(end <= tokens, "embeddings of tokens behind the last");
  require(share_evenly(e.values, num_embedded(e)), "embeddings of no even width");
}

void check_sources(const encoder_plan& p) {
  const int64_t tokens = p.num_tokens();
  require(divide(p.row_offsets, tokens), "rows of sources that are not their tokens");
  require(size_of(p.positions) == tokens && size_of(p.slots) == tokens, "sources' arrays of another length");
  require(lie_in(p.token_ids, 0, any) && lie_in(p.positions, 0, any) && lie_in(p.slots, 0, any),
          "negative tokens, positions or slots of sources");
  check_embedded(p.embedded, tokens);
}

// A row's tokens are the last of its context.
void check_rows(const step_plan& p) {
  const int64_t tokens = p.num_tokens(), rows = p.num_rows();
  require(size_of(p.positions) == tokens && size_of(p.slots) == tokens, "tokens' arrays of another length");
  require(size_of(p.context_lengths) == rows, "context_lengths of another length");
  require(lie_in(p.slots, 0, any), "negative slots");
  for (size_t row = 0; row < p.context_lengths.size(); ++row) {
    const int64_t before = int64_t{p.context_lengths[row]} - p.row_offsets[row + 1];
    for (int32_t t = p.row_offsets[row]; t < p.row_offsets[row + 1]; ++t) {
      const int32_t position = p.positions[static_cast<size_t>(t)];
      require(position >= 0 && position == before + t, "positions that are not the last of their contexts");
    }
  }
  require(is_table(p.page_table, rows) && (rows == 0 || p.table_width() > 0), "a page table of no even width");
  require(is_table(p.cross_page_table, rows), "a page table of sources of no even width");
  require(lie_in(p.page_table, 0, any) && lie_in(p.cross_page_table, 0, any), "negative pages");
  require(size_of(p.cross_lengths) == (p.cross_table_width() > 0 ? rows : 0), "cross_lengths of another length");
  require(lie_in(p.cross_lengths, 1, any), "rows without a source");
  check_embedded(p.embedded, tokens);
}

void check_groups(const step_plan& p) {
  if (p.group_offsets.empty())
    return require(p.shared_lengths.empty() && p.cross_shared_lengths.empty() && p.widest_group == 0,
                   "shared keys of no groups");
  const int64_t groups = size_of(p.group_offsets) - 1;
  require(divide(p.group_offsets, p.num_rows()) && groups > 0, "groups that are not the rows");
  require(p.num_tokens() == p.num_rows(), "groups of rows of several tokens");
  require(size_of(p.shared_lengths) == groups, "shared_lengths of another length");
  require(size_of(p.cross_shared_lengths) == (p.cross_lengths.empty() ? 0 : groups),
          "cross_shared_lengths of another length");
  int64_t widest = 0;
  for (size_t g = 0; g < p.shared_lengths.size(); ++g) {
    const int32_t begin = p.group_offsets[g], end = p.group_offsets[g + 1];
    widest = std::max<int64_t>(widest, end - begin);
    for (auto row = static_cast<size_t>(begin); row < static_cast<size_t>(end); ++row) {
      require(0 <= p.shared_lengths[g] && p.shared_lengths[g] < p.context_lengths[row],
              "more shared keys than a row has");
      require(p.cross_lengths.empty() || p.cross_shared_lengths[g] == p.cross_lengths[row],
              "rows of a group with sources of different lengths");
    }
  }
  require(p.widest_group == widest, "a widest group that is not");
}

void check_moves(const step_plan& p) {
  require(p.copy_from.size() == p.copy_to.size() && p.copy_from.size() == p.copy_tokens.size(),
          "copies' arrays of different lengths");
  require(lie_in(p.copy_from, 0, any) && lie_in(p.copy_to, 0, any) && lie_in(p.copy_tokens, 0, any),
          "negative pages to copy");

  const int64_t rows = p.reorders_beams() ? p.num_rows() : 0;
  require(size_of(p.place) == rows && size_of(p.first) == rows && size_of(p.fresh) == rows,
          "beams' arrays of another length");
  require(rows == 0 || p.num_tokens() == rows, "beams of several tokens a row");
  for (size_t row = 0; row < p.place.size(); ++row) {
    require(p.place[row] >= -1 && p.fresh[row] >= (p.place[row] >= 0 ? 0 : -1), "beams without a place or page");
    require(p.first[row] >= 0 && p.first[row] <= static_cast<int32_t>(row) &&
                p.first[static_cast<size_t>(p.first[row])] == p.first[row],
            "beams of no search");
  }

  int64_t slots = 0;
  for (const prefix_span& s : p.prefixes) {
    require(s.first_slot == slots && s.length > 0, "prefixes that do not follow one another");
    slots += s.length;
  }
  require(size_of(p.prefix_slots) == slots && lie_in(p.prefix_slots, 0, any), "slots that are not the prefixes'");
  require(share_evenly(p.prefix_values, slots), "prefixes of no even width");
}

void check_scored(const step_plan& p) {
  int64_t scores = 0;
  for (const scored_span& s : p.scored) {
    require(s.first_token >= 0 && s.count > 0 && int64_t{s.first_token} + s.count <= p.num_tokens(),
            "scores of tokens that are none");
    require(s.first_score == scores, "scores that do not follow one another");
    scores += s.count;
  }
  require(size_of(p.scored_ids) == scores && lie_in(p.scored_ids, -1, any), "scored tokens that are not the spans'");
}

void check_edits(const sampling_metadata& m, int64_t longest) {
  const int64_t rows = m.shape.total();
  // By more than that no token can have come.
  const auto is_change = [=](int32_t x) { return x >= logit_edit::ban && x / 2 <= longest; };
  require(size_of(m.edits) == m.shape.num_edits && size_of(m.late_edits) == m.shape.num_late,
          "edits of another number");
  require(m.shape.num_late == 0 || (m.shape.num_late == rows && m.shape.num_edits > 0), "late edits of other rows");
  require(size_of(m.penalties) == (m.shape.num_edits > 0 ? rows : 0), "penalties of other rows");
  for (const logit_edit& e : m.edits)
    require(e.row >= -1 && e.row < rows && e.token >= 0 && is_change(e.change), "edits of no logit");
  for (const late_edit& e : m.late_edits) require(e.place >= -1 && is_change(e.change), "late edits of no token");
}

void check_draws(const sampling_metadata& m) {
  const choice_layout at(m.shape);
  const auto num = [&](logits_use use) { return m.shape.rows_of(use).size(); };
  require(size_of(m.temperatures) == at.candidates.size() + num(logits_use::sampled), "temperatures of other rows");
  require(size_of(m.uniforms) == at.drawn.size(), "random numbers of other rows");
  require(size_of(m.thresholds) == num(logits_use::thresholded), "thresholds of other rows");
  constexpr float highest = std::numeric_limits<float>::max();
  require(std::ranges::all_of(m.temperatures, [](float x) { return 0 < x && x <= highest; }), "a temperature of none");
  require(std::ranges::all_of(m.uniforms, [](double x) { return 0 <= x && x < 1; }), "a random number of none");
  const auto cuts = [](const sampling_limits& by) {
    return 0 <= by.top_k && by.top_k <= std::numeric_limits<int32_t>::max() && 0 <= by.top_p && by.top_p <= 1 &&
           0 <= by.min_p && by.min_p <= 1;
  };
  require(std::ranges::all_of(m.thresholds, cuts), "thresholds that are none");
}

void check_searches(const sampling_metadata& m, const step_plan& p) {
  const int64_t beams = m.shape.rows_of(logits_use::next_beams).size(), groups = m.shape.num_groups;
  require((beams > 0) == (groups > 0) && (beams > 0) == (m.shape.num_stops > 0), "searches without beams");
  require(size_of(m.beam_rows) == beams && lie_in(m.beam_rows, 0, p.num_rows()), "beams of no row");
  require(beams == 0 ? m.beam_offsets.empty() : size_of(m.beam_offsets) == groups + 1 && divide(m.beam_offsets, beams),
          "searches that are not the beams");
  for (size_t g = 1; g < m.beam_offsets.size(); ++g)
    require(m.beam_offsets[g] - m.beam_offsets[g - 1] <= decode::max_beams, "a search of too many beams");
  require(size_of(m.beam_stops) == groups * m.shape.num_stops && lie_in(m.beam_stops, -1, any),
          "stop tokens that are not the searches'");
  const bool has_scores = beams > 0 && !p.reorders_beams();
  require(size_of(m.scores) == (has_scores ? p.num_rows() : 0), "scores of other rows");
  require(std::ranges::all_of(m.scores, [](float x) { return x == x; }), "scores that are no numbers");
}

// Whether the device leaves the token of some row there (place_of_choice).
bool leaves_token(const sampling_shape& s, int64_t place) {
  const choice_layout at(s);
  const auto is_among = [&](int64_t begin, int64_t count, int64_t each) {
    return begin <= place && place < begin + count * each && (place - begin) % each == 0;
  };
  const int64_t only_candidates = at.candidates.size() - s.rows_of(logits_use::thresholded).size();
  return is_among(at.next_at, at.next_beams.size(), beam_choice_size) || is_among(at.token_at, at.drawn.size(), 1) ||
         is_among(at.best_at, at.best.size(), 1) || is_among(at.index_at, only_candidates, s.num_candidates);
}

// A beam's parent is any of its search's: all of these have their rows in the step, in the same order.
void check_parents(const step_plan& p, const sampling_metadata& before) {
  const choice_layout at(before.shape);
  for (size_t row = 0; row < p.place.size(); ++row) {
    if (p.place[row] < 0) continue;
    const int64_t beam = (p.place[row] - at.next_at) / beam_choice_size;
    require(p.place[row] == at.next_at + beam * beam_choice_size && beam >= 0 && beam < at.next_beams.size(),
            "beams that were not chosen");
    const auto end = std::ranges::upper_bound(before.beam_offsets, beam);
    const int32_t count = *end - *(end - 1);
    const auto first = static_cast<size_t>(p.first[row]);
    require(beam - *(end - 1) == static_cast<int64_t>(row - first) &&
                first + static_cast<size_t>(count) <= p.first.size() &&
                p.first[first + static_cast<size_t>(count) - 1] == p.first[row],
            "beams of another search");
  }
}

void check_sampling(const step_plan& p) {
  const sampling_metadata& m = p.sampling;
  const sampling_shape& s = m.shape;
  require(std::ranges::all_of(s.rows, [](int32_t n) { return n >= 0; }) && s.total() <= p.num_rows(),
          "more rows of logits than there are rows");
  require(s.num_candidates >= 0 && s.num_candidates <= most_candidates && s.num_edits >= 0 && s.num_late >= 0 &&
              s.num_groups >= 0 && s.num_stops >= 0,
          "negative numbers of what is sampled, or too many candidates");
  require((s.num_candidates > 0) == (s.rows_with(&use_properties::candidates).size() > 0), "candidates of no row");
  require(size_of(m.tokens) == s.total() && lie_in(m.tokens, 0, p.num_tokens()), "logits that follow no token");
  check_edits(m, p.context_lengths.empty() ? 0 : std::ranges::max(p.context_lengths));
  check_draws(m);
  check_searches(m, p);
}

void check_side(const forward_side& s) {
  const int64_t tokens = s.num_tokens();
  require(s.embedded <= embedded_by::first_rank && is_float(s.embedding_type), "embeddings of no kind");
  require((s.embedded == embedded_by::plan) == !s.embeddings.empty(), "embeddings that are not there");
  if (s.empty())
    return require(tokens == 0 && s.token_type_ids.empty() && s.positions.empty() && s.embedded == embedded_by::nothing,
                   "tokens of no rows");
  require(tokens > 0 && divide(s.row_offsets, tokens), "rows that are not the tokens");
  require(size_of(s.positions) == tokens && (s.token_type_ids.empty() || size_of(s.token_type_ids) == tokens),
          "tokens' arrays of another length");
  require(lie_in(s.token_ids, 0, any) && lie_in(s.token_type_ids, 0, any), "negative tokens or types");
  for (size_t row = 0; row + 1 < s.row_offsets.size(); ++row)
    for (int32_t t = s.row_offsets[row]; t < s.row_offsets[row + 1]; ++t)
      require(s.positions[static_cast<size_t>(t)] == t - s.row_offsets[row], "positions that do not count a row");
  require(size_of(s.embeddings) % tokens == 0, "embeddings of no even width");
}

}  // namespace

void check_plan(const forward_plan& plan) {
  check_side(plan.input);
  check_side(plan.target);
  require(!plan.input.empty() && (plan.target.empty() || plan.target.num_rows() == plan.input.num_rows()),
          "targets that are not the inputs'");
  require(plan.pooling <= pool_kind::max, "a pooling of no kind");
}

void check_plan(const step_plan& plan) {
  require(plan.slot == 0 || plan.slot == 1, "a step of neither slot");
  check_sources(plan.sources);
  require(divide(plan.row_offsets, plan.num_tokens()), "rows that are not the tokens");
  check_rows(plan);
  check_groups(plan);
  check_moves(plan);
  check_scored(plan);
  check_sampling(plan);
}

void check_bounds(const step_plan& p, const plan_bounds& bounds) {
  const int64_t pages = bounds.num_pages, page_tokens = bounds.page_tokens, slots = pages * page_tokens;
  require(p.num_rows() <= bounds.max_rows, "more rows than the session has");
  require(lie_in(p.token_ids, -any, bounds.vocab_size) && lie_in(p.sources.token_ids, 0, bounds.encoder_vocab_size),
          "tokens outside the vocabulary");
  require(
      last_position(p.positions) < bounds.max_positions && last_position(p.sources.positions) < bounds.max_positions,
      "positions that the model lacks");
  for (const auto* array : {&p.page_table, &p.cross_page_table, &p.copy_from, &p.copy_to})
    require(lie_in(*array, 0, pages), "pages that the session lacks");
  require(lie_in(p.fresh, -1, pages), "pages that the session lacks");
  for (const auto* array : {&p.slots, &p.sources.slots, &p.prefix_slots})
    require(lie_in(*array, 0, slots), "slots that the session lacks");
  require(lie_in(p.copy_tokens, 0, page_tokens + 1), "copies of more than a page");
  require(lie_in(p.context_lengths, 0, p.table_width() * page_tokens + 1) &&
              lie_in(p.cross_lengths, 0, p.cross_table_width() * page_tokens + 1),
          "contexts longer than their pages");
  require((p.cross_table_width() > 0) == (p.has_rows() && bounds.encoder_vocab_size > 0),
          "sources without an encoder, or rows without sources");
  require(std::ranges::all_of(p.shared_lengths, [=](int32_t n) { return n % page_tokens == 0; }),
          "shared keys of half a page");
  const auto has_width = [&](const embedded_tokens& e) {
    return size_of(e.values) == num_embedded(e) * bounds.embedding_size;
  };
  require(has_width(p.embedded) && has_width(p.sources.embedded), "embeddings of another width");
  require(size_of(p.prefix_values) == size_of(p.prefix_slots) * bounds.prefix_token_size, "prefixes of another width");
  require(lie_in(p.scored_ids, -1, bounds.vocab_size), "scored tokens outside the vocabulary");
  for (const logit_edit& e : p.sampling.edits)
    require(e.token < bounds.vocab_size, "edits of tokens outside the vocabulary");
}

void check_follows(const step_plan& p, const sampling_metadata& before) {
  for (int32_t id : p.token_ids)
    require(id >= 0 || leaves_token(before.shape, -1 - int64_t{id}), "tokens that were not chosen");
  for (const late_edit& e : p.sampling.late_edits)
    require(e.place < 0 || leaves_token(before.shape, e.place), "late edits of tokens that were not chosen");
  check_parents(p, before);
}

}  // namespace ft::runtime
