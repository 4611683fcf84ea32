#include "runtime/step_batch.h"

#include <algorithm>

#include "ops/kv_cache.h"
#include "runtime/executor.h"

namespace ft::runtime {

void step_batch::reserve(int64_t rows, int64_t tokens) {
  const auto n = static_cast<size_t>(rows);
  requests_.reserve(n);
  rows_.reserve(n);
  beam_row_.reserve(n);
  for (auto* per_token : {&token_ids_, &positions_, &slots_}) per_token->reserve(static_cast<size_t>(tokens));
  for (auto* per_row : {&context_lengths_, &logit_rows_, &copy_from_, &copy_to_}) per_row->reserve(n);
  row_offsets_.reserve(n + 1);
}

void step_batch::clear() {
  requests_.clear();
  rows_.clear();
  beam_row_.clear();
  for (auto* v : {&token_ids_, &positions_, &row_offsets_, &slots_, &page_table_, &context_lengths_, &logit_rows_,
                  &copy_from_, &copy_to_})
    v->clear();
  row_offsets_.push_back(0);
  num_beam_logits_ = 0;
  widest_ = 1;
}

void step_batch::add(request& r, sequence& s, page_pool& pool) {
  if (requests_.empty() || requests_.back() != &r) requests_.push_back(&r);
  const int64_t page_tokens = pool.page_tokens(), end = s.computed + s.scheduled;
  const auto first = static_cast<size_t>(s.computed / page_tokens);
  if (first < s.pages.size() && pool.shared(s.pages[first])) {
    const int32_t own = pool.take();
    copy_from_.push_back(s.pages[first]);
    copy_to_.push_back(own);
    pool.give_back(s.pages[first]);
    s.pages[first] = own;
  }
  while (static_cast<int64_t>(s.pages.size()) * page_tokens < end) s.pages.push_back(pool.take());
  widest_ = std::max(widest_, static_cast<int64_t>(s.pages.size()));
  for (int64_t position = s.computed; position < end; ++position) {
    token_ids_.push_back(s.tokens[static_cast<size_t>(position)]);
    positions_.push_back(static_cast<int32_t>(position));
    const int64_t page = s.pages[static_cast<size_t>(position / page_tokens)];
    slots_.push_back(static_cast<int32_t>(page * page_tokens + position % page_tokens));
  }
  row_offsets_.push_back(static_cast<int32_t>(token_ids_.size()));
  context_lengths_.push_back(static_cast<int32_t>(end));
  rows_.push_back(&s);
  beam_row_.push_back(r.settings_.uses_beams());
}

void step_batch::finish(int64_t most_pages) {
  // One width for all rows, rounded up so that a growing context seldom needs a larger table.
  const int64_t width = std::min((widest_ + 63) / 64 * 64, most_pages);
  page_table_.resize(rows_.size() * static_cast<size_t>(width), 0);
  for (size_t row = 0; row < rows_.size(); ++row)
    std::copy(rows_[row]->pages.begin(), rows_[row]->pages.end(),
              page_table_.begin() + static_cast<std::ptrdiff_t>(row) * width);
  for (bool beams : {true, false}) {
    for (size_t row = 0; row < rows_.size(); ++row) {
      sequence& s = *rows_[row];
      if (beam_row_[row] != beams) continue;
      const bool complete = s.computed + s.scheduled == s.length();
      s.logits_row = complete ? static_cast<int32_t>(logit_rows_.size()) : -1;
      if (complete) logit_rows_.push_back(row_offsets_[row + 1] - 1);
    }
    if (beams) num_beam_logits_ = num_logits();
  }
}

void step_batch::copy_pages(nn::run& run, const page_pool& pool) const {
  if (copy_from_.empty()) return;
  arena::scope scope(run.activations);
  const tensor from = upload_i32(run, copy_from_), to = upload_i32(run, copy_to_);
  for (const kv_pages& layer : pool.layers()) ops::kv_copy(run.ex, {.pages = layer, .from = from, .to = to});
}

nn::ragged_batch step_batch::upload(nn::run& run, const page_pool& pool) const {
  nn::ragged_batch batch;
  batch.num_tokens = num_tokens();
  batch.num_rows = static_cast<int64_t>(rows_.size());
  batch.token_ids = upload_i32(run, token_ids_);
  batch.positions = upload_i32(run, positions_);
  batch.row_offsets = upload_i32(run, row_offsets_);
  batch.slots = upload_i32(run, slots_);
  batch.page_table =
      upload_i32(run, page_table_).reshape({batch.num_rows, static_cast<int64_t>(page_table_.size()) / batch.num_rows});
  batch.context_lengths = upload_i32(run, context_lengths_);
  batch.cache = &pool.layers();
  return batch;
}

tensor step_batch::upload_logit_rows(nn::run& run) const { return upload_i32(run, logit_rows_); }

}  // namespace ft::runtime
