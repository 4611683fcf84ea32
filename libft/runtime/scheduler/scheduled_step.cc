#include "runtime/scheduler/scheduled_step.h"

#include <algorithm>

namespace ft::runtime {
namespace {

// One width for all rows, rounded up so that a growing context seldom needs a larger table.
int64_t rounded_width(int64_t widest, int64_t most_pages) { return std::min((widest + 15) / 16 * 16, most_pages); }

}  // namespace

void scheduled_step::reserve(const model_limits& limits, int64_t rows, int64_t row_pages, int64_t tokens) {
  const auto n = static_cast<size_t>(rows), pages = n * static_cast<size_t>(row_pages);
  if (limits.is_encoder_decoder) source_requests_.reserve(n);
  requests_.reserve(n);
  rows_.reserve(n);
  held_.reserve(n);
  uses_.reserve(n);
  for (auto* per_token : {&plan_.token_ids, &plan_.positions, &plan_.slots})
    per_token->reserve(static_cast<size_t>(tokens));
  for (auto* per_row :
       {&plan_.context_lengths, &plan_.cross_lengths, &plan_.shared_lengths, &plan_.cross_shared_lengths,
        &plan_.copy_from, &plan_.copy_to, &plan_.copy_tokens, &plan_.place, &plan_.first, &plan_.fresh})
    per_row->reserve(n);
  plan_.page_table.reserve(pages);
  if (limits.is_encoder_decoder) plan_.cross_page_table.reserve(pages);
  plan_.row_offsets.reserve(n + 1);
  plan_.group_offsets.reserve(n + 1);
  sampling_metadata& m = plan_.sampling;
  m.tokens.reserve(n);
  m.penalties.reserve(n);
  m.late_edits.reserve(n);
  m.temperatures.reserve(n);
  m.uniforms.reserve(n);
  m.thresholds.reserve(n);
  m.beam_rows.reserve(n);
  m.beam_offsets.reserve(n + 1);
  m.scores.reserve(n);
}

void scheduled_step::clear() {
  plan_.clear();
  source_requests_.clear();
  requests_.clear();
  rows_.clear();
  scored_.clear();
  held_.clear();
  reorders_beams_ = false;
  widest_ = 1;
  widest_source_ = 0;
}

void scheduled_step::add_source(scheduled_request& r, page_allocator& pages) {
  source_requests_.push_back(&r);
  encoder_plan& to = plan_.sources;
  const int64_t length = r.source_length();
  pages.cover(r.source_pages, length);
  add_embedded(to.embedded, r.soft, 0, length, to.num_tokens());
  for (int64_t position = 0; position < length; ++position) {
    to.token_ids.push_back(r.source[static_cast<size_t>(position)]);
    to.positions.push_back(static_cast<int32_t>(position));
    to.slots.push_back(pages.slot_of(r.source_pages, position));
  }
  to.row_offsets.push_back(static_cast<int32_t>(to.token_ids.size()));
}

void scheduled_step::add_row(scheduled_request& r, sequence& s, page_allocator& pages) {
  const bool is_first = requests_.empty() || requests_.back() != &r;
  if (is_first) requests_.push_back(&r);
  plan_.first.push_back(is_first ? static_cast<int32_t>(rows_.size()) : plan_.first.back());
  const bool reordered = r.settings().uses_beams() && s.chosen_at >= 0;
  const int64_t page_tokens = pages.page_tokens(), prefix = r.soft.prefix_length;
  const int64_t begin = prefix + s.computed, end = begin + s.scheduled;
  const auto first = static_cast<size_t>(begin / page_tokens);
  if (reordered) {
    s.fresh_page = pages.take();
  } else if (first < s.pages.size() && pages.shared(s.pages[first])) {
    const int32_t own = pages.take();
    plan_.copy_from.push_back(s.pages[first]);
    plan_.copy_to.push_back(own);
    plan_.copy_tokens.push_back(static_cast<int32_t>(begin % page_tokens));
    pages.give_back(s.pages[first]);
    s.pages[first] = own;
  }
  if (!reordered) pages.cover(s.pages, end);
  reorders_beams_ |= reordered;
  plan_.place.push_back(reordered ? s.chosen_at : -1);
  plan_.fresh.push_back(s.fresh_page);
  widest_ = std::max(widest_, pages_for(end, page_tokens));
  if (prefix > 0 && s.computed == 0) add_prefix(r, s, pages);
  const int64_t first_token = plan_.num_tokens();
  if (!r.is_two_sided()) add_embedded(plan_.embedded, r.soft, s.computed, s.computed + s.scheduled, first_token);
  for (int64_t position = begin; position < end; ++position) {
    plan_.token_ids.push_back(s.id_of(position - prefix));
    plan_.positions.push_back(static_cast<int32_t>(position));
    plan_.slots.push_back(reordered ? 0 : pages.slot_of(s.pages, position));
  }
  if (r.keeps_prompt_logprobs() && !r.prompt_computed()) add_scored(r, s, first_token);
  plan_.row_offsets.push_back(static_cast<int32_t>(plan_.token_ids.size()));
  plan_.context_lengths.push_back(static_cast<int32_t>(end));
  plan_.cross_lengths.push_back(static_cast<int32_t>(r.source_length()));
  widest_source_ = std::max(widest_source_, static_cast<int64_t>(r.source_pages.size()));
  rows_.push_back({&r, &s, -1});
}

// Those of the prompt's positions from `begin` to `end` that have an embedding, in runs of neighbours; `begin` is the
// step's token `first_token`.
void scheduled_step::add_embedded(embedded_tokens& to, const soft_prompt& soft, int64_t begin, int64_t end,
                                  int64_t first_token) const {
  const auto& places = soft.positions;
  const auto from = std::ranges::lower_bound(places, begin) - places.begin();
  const auto last = std::ranges::lower_bound(places, end) - places.begin();
  for (auto i = static_cast<size_t>(from); i < static_cast<size_t>(last); ++i) {
    const auto token = static_cast<int32_t>(first_token + places[i] - begin);
    if (!to.spans.empty() && to.spans.back().first_token + to.spans.back().count == token)
      ++to.spans.back().count;
    else
      to.spans.push_back({token, 1});
  }
  to.values.insert(to.values.end(), soft.embeddings.begin() + from * embedding_size_,
                   soft.embeddings.begin() + last * embedding_size_);
}

void scheduled_step::add_prefix(const scheduled_request& r, const sequence& s, const page_allocator& pages) {
  plan_.prefixes.push_back(
      {static_cast<int32_t>(plan_.prefix_slots.size()), static_cast<int32_t>(r.soft.prefix_length)});
  for (int64_t position = 0; position < r.soft.prefix_length; ++position)
    plan_.prefix_slots.push_back(pages.slot_of(s.pages, position));
  plan_.prefix_values.insert(plan_.prefix_values.end(), r.soft.prefix.begin(), r.soft.prefix.end());
}

void scheduled_step::add_scored(scheduled_request& r, const sequence& s, int64_t first_token) {
  const int64_t count = std::min(s.scheduled, r.prompt_length() - 1 - s.computed);  // none follows the last
  if (count < 1) return;
  plan_.scored.push_back(
      {static_cast<int32_t>(first_token), static_cast<int32_t>(plan_.scored_ids.size()), static_cast<int32_t>(count)});
  scored_.push_back({&r, s.computed + 1});
  const auto next = s.tokens.begin() + s.computed + 1;
  plan_.scored_ids.insert(plan_.scored_ids.end(), next, next + count);
}

void scheduled_step::finish(const page_allocator& pages, int64_t most_pages, sampling_composer& sampling) {
  const int64_t width = rounded_width(widest_, most_pages), source_width = rounded_width(widest_source_, most_pages);
  plan_.page_table.resize(rows_.size() * static_cast<size_t>(width), 0);
  plan_.cross_page_table.resize(rows_.size() * static_cast<size_t>(source_width), 0);
  for (size_t i = 0; i < rows_.size(); ++i) {
    const auto at = static_cast<std::ptrdiff_t>(i);
    std::ranges::copy(rows_[i].of->pages, plan_.page_table.begin() + at * width);
    std::ranges::copy(rows_[i].owner->source_pages, plan_.cross_page_table.begin() + at * source_width);
  }
  if (widest_source_ == 0) plan_.cross_lengths.clear();
  if (!reorders_beams_)
    for (auto* array : {&plan_.place, &plan_.first, &plan_.fresh}) array->clear();
  find_groups(pages.page_tokens());
  place_logits(sampling);
}

// A group is neighbouring rows of one request, which begin with the pages of its prompt and have one source. A page
// that is written in this step is no other row's.
void scheduled_step::find_groups(int64_t page_tokens) {
  if (plan_.num_tokens() != plan_.num_rows() || requests_.size() == rows_.size()) return;
  for (size_t first = 0, end = 0; first < rows_.size(); first = end) {
    const std::vector<int32_t>& pages = rows_[first].of->pages;
    auto same = pages.end();
    for (end = first + 1; end < rows_.size() && rows_[end].owner == rows_[first].owner; ++end) {
      const std::vector<int32_t>& others = rows_[end].of->pages;
      same = std::mismatch(pages.begin(), same, others.begin(), others.end()).first;
    }
    const int64_t before = (plan_.context_lengths[first] - 1) / page_tokens;  // pages that are full of earlier tokens
    plan_.group_offsets.push_back(static_cast<int32_t>(first));
    plan_.shared_lengths.push_back(static_cast<int32_t>(std::min<int64_t>(same - pages.begin(), before) * page_tokens));
    if (widest_source_ > 0) plan_.cross_shared_lengths.push_back(plan_.cross_lengths[first]);
    plan_.widest_group = std::max(plan_.widest_group, static_cast<int64_t>(end - first));
  }
  plan_.group_offsets.push_back(static_cast<int32_t>(rows_.size()));
}

void scheduled_step::place_logits(sampling_composer& sampling) {
  sampling.begin(plan_.sampling);
  uses_.clear();
  for (const row& at : rows_) {
    const bool more_to_come = at.of->computed + at.of->scheduled < at.of->length();  // of the prompt
    uses_.push_back(more_to_come ? no_use : static_cast<uint8_t>(at.owner->use_of_logits(*at.of)));
  }
  for (uint8_t use = 0; use < num_logits_uses; ++use)
    for (size_t i = 0; i < rows_.size(); ++i) {
      if (uses_[i] != use) continue;
      row& at = rows_[i];
      at.logits_row = sampling.add(static_cast<logits_use>(use), *at.owner, *at.of, static_cast<int32_t>(i),
                                   plan_.row_offsets[i + 1] - 1);
      if (static_cast<logits_use>(use) != logits_use::next_beams || reorders_beams_) continue;
      plan_.sampling.scores.resize(rows_.size());
      plan_.sampling.scores[i] = at.owner->score_of(*at.of);
    }
  sampling.finish();
  hand_out_logits();
}

}  // namespace ft::runtime
