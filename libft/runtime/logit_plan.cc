#include "runtime/logit_plan.h"

#include <algorithm>
#include <bit>

#include "decode/philox.h"

namespace ft::runtime {
namespace {

// Few different sizes, so that steps are seldom recorded anew.
int64_t rounded_up(size_t n, size_t least) { return static_cast<int64_t>(std::max(least, std::bit_ceil(n))); }

void push_float(std::vector<int32_t>& to, float x) { to.push_back(std::bit_cast<int32_t>(x)); }
void push_double(std::vector<int32_t>& to, double x) {
  const auto bits = std::bit_cast<std::array<int32_t, 2>>(x);
  to.insert(to.end(), bits.begin(), bits.end());
}

}  // namespace

void logit_plan::reserve(int64_t rows) {
  const auto n = static_cast<size_t>(rows);
  tokens_.reserve(n);
  penalties_.reserve(3 * n);
  temperatures_.reserve(n);
  uniforms_.reserve(2 * n);
  late_edits_.reserve(2 * n);
  cuts_.reserve(6 * n);
  beam_rows_.reserve(n);
  beam_offsets_.reserve(n + 1);
  searches_.reserve(n);
}

void logit_plan::clear() {
  rows_ = {};
  has_late_edits_ = false;
  for (const field& f : fields()) {
    f.bits->clear();
    *f.on_device = {};
  }
  searches_.clear();
}

int32_t logit_plan::add(logits_use use, const request& r, const sequence& s, int32_t row, int32_t token) {
  const auto place = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  const decode::options& settings = r.settings_;
  const auto candidates = [&](int64_t& count, size_t wanted, float temperature) {
    ++count;
    const auto most = static_cast<size_t>(most_candidates);
    rows_.num_candidates = std::max(rows_.num_candidates, rounded_up(std::min(wanted, most), 8));
    push_float(temperatures_, temperature);
  };
  switch (use) {
    case logits_use::logits:
      ++rows_.logits;
      break;
    case logits_use::log_probabilities:
      ++rows_.log_probabilities;
      break;
    case logits_use::beam_candidates:
      candidates(rows_.beam_candidates, settings.beam_candidates(), 1);
      break;
    case logits_use::next_beams:
      candidates(rows_.next_beams, settings.beam_candidates(), 1);
      if (searches_.empty() || searches_.back() != &r) {
        searches_.push_back(&r);
        beam_offsets_.push_back(static_cast<int32_t>(beam_rows_.size()));
      }
      beam_rows_.push_back(row);
      break;
    case logits_use::candidates:
      candidates(rows_.candidates, settings.uses_beams() ? settings.beam_candidates() : settings.token_candidates(), 1);
      break;
    case logits_use::cut:
      candidates(rows_.cut, settings.token_candidates(), settings.temperature);
      push_double(uniforms_, r.uniform_of(s));
      push_double(cuts_, settings.top_k);
      push_double(cuts_, settings.top_p_after(r.new_tokens(s)));
      push_double(cuts_, settings.min_p);
      break;
    case logits_use::sampled:
      ++rows_.sampled;
      push_float(temperatures_, settings.temperature);
      push_double(uniforms_, r.uniform_of(s));
      break;
    case logits_use::best:
      ++rows_.best;
  }
  const bool is_whole = use == logits_use::logits || use == logits_use::log_probabilities;
  const logit_penalties by = decode::penalties_of(settings);
  for (float x : {by.repetition, by.presence, by.frequency}) push_float(penalties_, x);
  late_edit late;
  if (!is_whole && settings.edits_logits()) {
    const bool is_late = s.chosen_at >= 0;
    for (const logit_edit& e : editor_.list(place, s.tokens, r.new_tokens(s).size(), settings, is_late))
      edits_.insert(edits_.end(), {e.row, e.token, e.change});
    if (is_late) late = {s.chosen_at, decode::change_by_token(settings)};
  }
  has_late_edits_ |= late.change != 0;
  late_edits_.insert(late_edits_.end(), {late.place, late.change});
  return place;
}

void logit_plan::list_stops() {
  if (searches_.empty()) return;
  beam_offsets_.push_back(static_cast<int32_t>(beam_rows_.size()));
  rows_.num_groups = static_cast<int64_t>(searches_.size());
  for (const request* r : searches_)
    rows_.num_stops = std::max(rows_.num_stops, rounded_up(r->settings_.stop_token_ids.size(), 1));
  beam_stops_.assign(static_cast<size_t>(rows_.num_groups * rows_.num_stops), -1);
  auto group = beam_stops_.begin();
  for (const request* r : searches_) {
    std::ranges::copy(r->settings_.stop_token_ids, group);
    group += static_cast<std::ptrdiff_t>(rows_.num_stops);
  }
}

void logit_plan::finish() {
  list_stops();
  if (has_late_edits_)
    rows_.num_late = rows_.total();
  else
    late_edits_.clear();
  if (edits_.empty() && !has_late_edits_) return penalties_.clear();
  const logit_edit none;
  rows_.num_edits = rounded_up(edits_.size() / 3, 64);
  while (edits_.size() < static_cast<size_t>(3 * rows_.num_edits))
    edits_.insert(edits_.end(), {none.row, none.token, none.change});
}

std::array<logit_plan::field, 10> logit_plan::fields() {
  return {{{&tokens, &tokens_},
           {&edits, &edits_},
           {&penalties, &penalties_},
           {&late_edits, &late_edits_},
           {&temperatures, &temperatures_},
           {&uniforms, &uniforms_},
           {&cuts, &cuts_},
           {&beam_rows, &beam_rows_},
           {&beam_offsets, &beam_offsets_},
           {&beam_stops, &beam_stops_}}};
}

void logit_plan::view() {
  edits = tensor(edits.data, dtype::i32, {rows_.num_edits, 3});
  penalties = tensor(penalties.data, dtype::f32, {penalties.size() / 3, 3});
  temperatures = tensor(temperatures.data, dtype::f32, {temperatures.size()});
  late_edits = rows_.num_late > 0 ? late_edits.reshape({rows_.num_late, 2}) : tensor();
  uniforms = tensor(uniforms.data, dtype::f64, {rows_.cut + rows_.sampled});
  cuts = tensor(cuts.data, dtype::f64, {rows_.cut, 3});
  beam_stops = tensor(beam_stops.data, dtype::i32, {rows_.num_groups, rows_.num_stops});
}

}  // namespace ft::runtime
