#include "runtime/scheduler/sampling_composer.h"

#include <algorithm>
#include <bit>

namespace ft::runtime {
namespace {

// Few different sizes, so that sampling is seldom recorded anew.
int32_t rounded_up(size_t n, size_t least) { return static_cast<int32_t>(std::max(least, std::bit_ceil(n))); }

}  // namespace

void sampling_composer::begin(sampling_metadata& to) {
  to_ = &to;
  has_late_edits_ = false;
  searches_.clear();
}

int32_t sampling_composer::add(logits_use use, const scheduled_request& r, const sequence& s, int32_t row,
                               int32_t token) {
  sampling_metadata& m = *to_;
  const use_properties& wanted = properties_of_uses[static_cast<size_t>(use)];
  const decode::options& settings = r.settings();
  const auto place = static_cast<int32_t>(m.tokens.size());
  m.tokens.push_back(token);
  ++m.shape.rows[static_cast<size_t>(use)];
  if (wanted.candidates) {
    const size_t count = settings.uses_beams() ? settings.beam_candidates() : settings.token_candidates();
    m.shape.num_candidates =
        std::max(m.shape.num_candidates, rounded_up(std::min(count, static_cast<size_t>(most_candidates)), 8));
  }
  if (wanted.candidates || wanted.drawn) m.temperatures.push_back(wanted.drawn ? settings.temperature : 1);
  if (wanted.drawn) m.uniforms.push_back(r.uniform_of(s));
  if (use == logits_use::thresholded)
    m.thresholds.push_back({static_cast<double>(settings.top_k), settings.top_p_after(r.new_tokens(s)),
                            static_cast<double>(settings.min_p)});
  if (wanted.next_beam) {
    if (searches_.empty() || searches_.back() != &r) {
      searches_.push_back(&r);
      m.beam_offsets.push_back(static_cast<int32_t>(m.beam_rows.size()));
    }
    m.beam_rows.push_back(row);
  }
  m.penalties.push_back(decode::penalties_of(settings));
  late_edit late;
  if (!wanted.to_host && settings.edits_logits()) {
    const bool is_late = s.chosen_at >= 0;
    for (const logit_edit& e : editor_.list(place, s.tokens, r.new_tokens(s).size(), settings, is_late))
      m.edits.push_back(e);
    if (is_late) late = {s.chosen_at, decode::change_by_token(settings)};
  }
  has_late_edits_ |= late.change != 0;
  m.late_edits.push_back(late);
  return place;
}

void sampling_composer::list_stops() {
  sampling_metadata& m = *to_;
  if (searches_.empty()) return;
  m.beam_offsets.push_back(static_cast<int32_t>(m.beam_rows.size()));
  m.shape.num_groups = static_cast<int32_t>(searches_.size());
  for (const scheduled_request* r : searches_)
    m.shape.num_stops = std::max(m.shape.num_stops, rounded_up(r->settings().stop_token_ids.size(), 1));
  m.beam_stops.assign(static_cast<size_t>(m.shape.num_groups) * static_cast<size_t>(m.shape.num_stops), -1);
  auto group = m.beam_stops.begin();
  for (const scheduled_request* r : searches_) {
    std::ranges::copy(r->settings().stop_token_ids, group);
    group += m.shape.num_stops;
  }
}

void sampling_composer::finish() {
  sampling_metadata& m = *to_;
  list_stops();
  if (has_late_edits_)
    m.shape.num_late = static_cast<int32_t>(m.late_edits.size());
  else
    m.late_edits.clear();
  if (m.edits.empty() && !has_late_edits_) return m.penalties.clear();
  m.shape.num_edits = rounded_up(m.edits.size(), 64);
  m.edits.resize(static_cast<size_t>(m.shape.num_edits));
}

}  // namespace ft::runtime
