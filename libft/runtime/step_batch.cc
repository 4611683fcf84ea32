#include "runtime/step_batch.h"

#include <algorithm>
#include <bit>

#include "ops/beams.h"
#include "ops/kv_cache.h"
#include "ops/log_softmax.h"
#include "runtime/executor.h"

namespace ft::runtime {
namespace {

// One width for all rows, rounded up so that a growing context seldom needs a larger table.
int64_t table_width(int64_t widest, int64_t most_pages) { return std::min((widest + 15) / 16 * 16, most_pages); }

// In every layer.
void copy_pages(nn::run& run, const page_pool& pool, const tensor& from, const tensor& to, const tensor& tokens) {
  ops::kv_copy(run.ex, {.pages = pool.layers().front(),
                        .from = from,
                        .to = to,
                        .tokens = tokens,
                        .layers = static_cast<int64_t>(pool.layers().size()),
                        .layer_bytes = pool.layer_bytes()});
}

// [heads, tokens, head_dim] as [tokens, heads, head_dim]
tensor by_token(tensor t) {
  std::swap(t.shape[0], t.shape[1]);
  std::swap(t.stride[0], t.stride[1]);
  return t;
}

}  // namespace

void step_batch::reserve(int64_t rows, int64_t tokens) {
  const auto n = static_cast<size_t>(rows);
  requests_.reserve(n);
  rows_.reserve(n);
  owners_.reserve(n);
  for (auto* per_token : {&token_ids_, &positions_, &slots_}) per_token->reserve(static_cast<size_t>(tokens));
  for (auto* per_row : {&context_lengths_, &cross_lengths_, &shared_lengths_, &cross_shared_lengths_, &copy_from_,
                        &copy_to_, &logits_rows_, &place_, &first_, &fresh_, &scores_})
    per_row->reserve(n);
  row_offsets_.reserve(n + 1);
  group_offsets_.reserve(n + 1);
  logits_.reserve(rows);
}

void step_batch::clear() {
  requests_.clear();
  rows_.clear();
  owners_.clear();
  embedded_.clear();
  for (auto* v : {&token_ids_, &positions_, &slots_, &page_table_, &context_lengths_, &cross_page_table_,
                  &cross_lengths_, &group_offsets_, &shared_lengths_, &cross_shared_lengths_, &copy_from_, &copy_to_,
                  &copy_tokens_, &logits_rows_, &place_, &first_, &fresh_, &scores_})
    v->clear();
  follows_ = false;
  followed_table_ = followed_slots_ = scores_on_device_ = {};
  widest_group_ = 0;
  row_offsets_.resize(1);
  logits_.clear();
  widest_ = 1;
  widest_source_ = 0;
}

void step_batch::add(request& r, sequence& s, page_pool& pool) {
  const bool is_first = requests_.empty() || requests_.back() != &r;
  if (is_first) requests_.push_back(&r);
  first_.push_back(is_first ? static_cast<int32_t>(rows_.size()) : first_.back());
  const bool follows = r.settings_.uses_beams() && s.chosen_at >= 0;
  const int64_t page_tokens = pool.page_tokens(), prefix = r.soft_.prefix_length;
  const int64_t begin = prefix + s.computed, end = begin + s.scheduled;
  const auto first = static_cast<size_t>(begin / page_tokens);
  if (follows) {
    s.fresh_page = pool.take();
  } else if (first < s.pages.size() && pool.shared(s.pages[first])) {
    const int32_t own = pool.take();
    copy_from_.push_back(s.pages[first]);
    copy_to_.push_back(own);
    copy_tokens_.push_back(static_cast<int32_t>(begin % page_tokens));
    pool.give_back(s.pages[first]);
    s.pages[first] = own;
  }
  if (!follows) pool.cover(s.pages, end);
  follows_ |= follows;
  place_.push_back(follows ? s.chosen_at : -1);
  fresh_.push_back(s.fresh_page);
  widest_ = std::max(widest_, pages_for(end, page_tokens));
  if (!r.is_two_sided()) embedded_.add(r.soft_, s.computed, s.computed + s.scheduled, num_tokens());
  for (int64_t position = begin; position < end; ++position) {
    token_ids_.push_back(s.id_of(position - prefix));
    positions_.push_back(static_cast<int32_t>(position));
    slots_.push_back(follows ? 0 : pool.slot_of(s.pages, position));
  }
  row_offsets_.push_back(static_cast<int32_t>(token_ids_.size()));
  context_lengths_.push_back(static_cast<int32_t>(end));
  rows_.push_back(&s);
  cross_lengths_.push_back(static_cast<int32_t>(r.source_length()));
  widest_source_ = std::max(widest_source_, static_cast<int64_t>(r.source_pages_.size()));
  owners_.push_back(&r);
}

void step_batch::finish(const page_pool& pool, int64_t most_pages) {
  const int64_t width = table_width(widest_, most_pages), source_width = table_width(widest_source_, most_pages);
  page_table_.resize(rows_.size() * static_cast<size_t>(width), 0);
  cross_page_table_.resize(rows_.size() * static_cast<size_t>(source_width), 0);
  for (size_t row = 0; row < rows_.size(); ++row) {
    const auto at = static_cast<std::ptrdiff_t>(row);
    std::copy(rows_[row]->pages.begin(), rows_[row]->pages.end(), page_table_.begin() + at * width);
    const auto& source = owners_[row]->source_pages_;
    std::copy(source.begin(), source.end(), cross_page_table_.begin() + at * source_width);
  }
  find_groups(pool.page_tokens());
  place_logits();
}

// A group is neighbouring rows of one request, which begin with the pages of its prompt and have one source. A page
// that is written in this step is no other row's.
void step_batch::find_groups(int64_t page_tokens) {
  if (num_tokens() != static_cast<int64_t>(rows_.size()) || requests_.size() == rows_.size()) return;
  for (size_t first = 0, end = 0; first < rows_.size(); first = end) {
    const std::vector<int32_t>& pages = rows_[first]->pages;
    auto same = pages.end();
    for (end = first + 1; end < rows_.size() && owners_[end] == owners_[first]; ++end)
      same = std::mismatch(pages.begin(), same, rows_[end]->pages.begin(), rows_[end]->pages.end()).first;
    const int64_t before = (context_lengths_[first] - 1) / page_tokens;  // pages that are full of earlier tokens
    group_offsets_.push_back(static_cast<int32_t>(first));
    shared_lengths_.push_back(static_cast<int32_t>(std::min<int64_t>(same - pages.begin(), before) * page_tokens));
    cross_shared_lengths_.push_back(cross_lengths_[first]);
    widest_group_ = std::max(widest_group_, static_cast<int64_t>(end - first));
  }
  group_offsets_.push_back(static_cast<int32_t>(rows_.size()));
}

void step_batch::place_logits() {
  logits_rows_.assign(rows_.size(), -1);
  for (logits_use use :
       {logits_use::logits, logits_use::log_probabilities, logits_use::beam_candidates, logits_use::next_beams,
        logits_use::candidates, logits_use::cut, logits_use::sampled, logits_use::best})
    for (size_t row = 0; row < rows_.size(); ++row) {
      sequence& s = *rows_[row];
      const request& r = *owners_[row];
      const bool more_to_come = s.computed + s.scheduled < s.length();  // of the prompt
      if (more_to_come || r.use_of_logits(s) != use) continue;
      logits_rows_[row] = logits_.add(use, r, s, static_cast<int32_t>(row), row_offsets_[row + 1] - 1);
      if (use != logits_use::next_beams || follows_) continue;
      scores_.resize(rows_.size());
      scores_[row] = std::bit_cast<int32_t>(r.score_of(s));
    }
  logits_.finish();
  hand_out_logits();
}

void step_batch::hand_out_logits() const {
  for (size_t row = 0; row < rows_.size(); ++row) rows_[row]->logits_row = logits_rows_[row];
}

void step_batch::copy_pages(nn::run& run, const page_pool& pool) {
  if (copy_from_.empty()) return;
  arena::scope scope(run.activations);
  staged_.assign(copy_from_.begin(), copy_from_.end());
  staged_.insert(staged_.end(), copy_to_.begin(), copy_to_.end());
  staged_.insert(staged_.end(), copy_tokens_.begin(), copy_tokens_.end());
  const tensor pages = upload_i32(run, staged_);
  const int64_t n = pages.size() / 3;
  runtime::copy_pages(run, pool, pages.slice(0, 0, n), pages.slice(0, n, 2 * n), pages.slice(0, 2 * n, 3 * n));
}

void step_batch::follow_beams(nn::run& run, const page_pool& pool, const tensor& chosen) {
  if (!follows_) return;
  const auto rows = static_cast<int64_t>(rows_.size()), width = static_cast<int64_t>(page_table_.size()) / rows;
  const auto make = [&](dtype type) { return run.activations.make(type, {rows}); };
  followed_table_ = run.activations.make(dtype::i32, {rows, width});
  followed_slots_ = make(dtype::i32);
  scores_on_device_ = make(dtype::f32);
  arena::scope scope(run.activations);
  staged_.clear();
  for (const auto* v : {&place_, &first_, &positions_, &fresh_, &page_table_})
    staged_.insert(staged_.end(), v->begin(), v->end());
  const tensor given = upload_i32(run, staged_);
  const tensor from = make(dtype::i32), to = make(dtype::i32), tokens = make(dtype::i32);
  ops::reorder_beams(run.ex, {.new_table = followed_table_,
                              .slots = followed_slots_,
                              .from = from,
                              .to = to,
                              .tokens = tokens,
                              .score = scores_on_device_,
                              .chosen = chosen,
                              .place = given.slice(0, 0, rows),
                              .first = given.slice(0, rows, 2 * rows),
                              .positions = given.slice(0, 2 * rows, 3 * rows),
                              .fresh = given.slice(0, 3 * rows, 4 * rows),
                              .page_table = given.slice(0, 4 * rows, given.size()).reshape({rows, width}),
                              .page_tokens = pool.page_tokens()});
  runtime::copy_pages(run, pool, from, to, tokens);
}

void step_batch::write_prefixes(nn::run& run, const page_pool& pool) const {
  for (size_t row = 0; row < rows_.size(); ++row) {
    const soft_prompt& soft = owners_[row]->soft_;
    if (soft.prefix_length == 0 || rows_[row]->computed > 0) continue;
    arena::scope scope(run.activations);
    const kv_layout& layout = pool.layers().front().layout;
    const int64_t heads = layout.num_kv_heads;
    const tensor given = run.activations.make(dtype::f32, {2 * heads, soft.prefix_length, layout.head_dim});
    const tensor slots = run.activations.make(dtype::i32, {soft.prefix_length});
    for (int64_t position = 0; position < soft.prefix_length; ++position) {
      const int32_t slot = pool.slot_of(rows_[row]->pages, position);
      run.ex.upload(slots.as<int32_t>() + position, &slot, sizeof slot);
    }
    const auto layer_values = static_cast<size_t>(given.size());
    for (size_t layer = 0; layer < pool.layers().size(); ++layer) {
      run.ex.upload(given.data, soft.prefix.data() + layer * layer_values, layer_values * sizeof(float));
      ops::kv_write(run.ex, {.key = by_token(given.slice(0, 0, heads)),
                             .value = by_token(given.slice(0, heads, 2 * heads)),
                             .slots = slots,
                             .pages = pool.layers()[layer]});
    }
  }
}

nn::ragged_batch step_batch::upload(nn::run& run, const page_pool& pool) {
  nn::ragged_batch batch;
  batch.embedded = embedded_.upload(run);
  batch.num_tokens = num_tokens();
  batch.num_rows = static_cast<int64_t>(rows_.size());
  batch.cache = &pool.layers();
  upload_integers(run, batch);
  return batch;
}

void step_batch::upload_integers(nn::run& run, nn::ragged_batch& batch) {
  tensor scores;
  integers_.clear();
  integers_.add(batch.token_ids, token_ids_);
  integers_.add(batch.positions, positions_);
  integers_.add(batch.row_offsets, row_offsets_);
  integers_.add(batch.slots, slots_);
  integers_.add(batch.context_lengths, context_lengths_);
  integers_.add(batch.cross_lengths, cross_lengths_);
  integers_.add(batch.shared.offsets, group_offsets_);
  integers_.add(batch.shared.lengths, shared_lengths_);
  integers_.add(batch.cross_shared.lengths, cross_shared_lengths_);
  integers_.add(batch.page_table, page_table_);
  integers_.add(scores, scores_);
  integers_.add(batch.cross_page_table, cross_page_table_);
  for (const logit_plan::field& f : logits_.fields()) integers_.add(*f.on_device, *f.bits);
  integers_.upload(run);
  logits_.view();
  const auto as_table = [&](tensor& t) { t = t.reshape({batch.num_rows, t.size() / batch.num_rows}); };
  as_table(batch.page_table);
  if (follows_) {
    batch.page_table = followed_table_;
    batch.slots = followed_slots_;
  } else if (scores.size() > 0) {
    scores_on_device_ = tensor(scores.data, dtype::f32, {scores.size()});
  }
  if (widest_source_ > 0)
    as_table(batch.cross_page_table);
  else
    batch.cross_page_table = batch.cross_lengths = {};
  if (widest_group_ == 0) batch.shared = batch.cross_shared = {};
  batch.shared.widest = batch.cross_shared.widest = widest_group_;
  batch.cross_shared.offsets = batch.shared.offsets;
}

bool step_batch::only_decodes() const {
  const auto scores_prompt = [](const request* r) { return r->keeps_prompt_logprobs() && !r->prompt_computed(); };
  return num_tokens() == static_cast<int64_t>(rows_.size()) && embedded_.empty() &&
         std::ranges::none_of(requests_, scores_prompt);
}

step_shape step_batch::shape() const {
  const auto rows = static_cast<int64_t>(rows_.size());
  const auto width = [&](const std::vector<int32_t>& table) { return static_cast<int64_t>(table.size()) / rows; };
  return {rows,
          width(page_table_),
          width(cross_page_table_),
          static_cast<int64_t>(shared_lengths_.size()),
          widest_group_,
          follows_,
          logits_.rows()};
}

// The logits of a block of tokens at a time exist, since those of a long prompt could fill the memory.
void step_batch::score_prompts(nn::run& run, const arch::network& network, const tensor& hidden) const {
  constexpr int64_t block = 64;
  for (size_t row = 0; row < rows_.size(); ++row) {
    request& r = *owners_[row];
    const sequence& s = *rows_[row];
    if (!r.keeps_prompt_logprobs() || r.prompt_computed()) continue;
    const int64_t count = std::min(s.scheduled, r.prompt_length_ - 1 - s.computed);  // none follows the last
    const tensor own = hidden.slice(0, row_offsets_[row], row_offsets_[row] + count);
    for (int64_t begin = 0; begin < count; begin += block) {
      const int64_t end = std::min(begin + block, count);
      arena::scope scope(run.activations);
      const tensor log_probs = network.logits(run, own.slice(0, begin, end));
      ops::log_softmax(run.ex, {.out = log_probs, .x = log_probs});
      std::lock_guard lock(r.mutex_);
      for (int64_t i = begin; i < end; ++i) {
        const auto next = static_cast<size_t>(s.computed + i + 1);
        if (s.tokens[next] < 0) continue;  // an embedding, which has no probability
        const float* value = log_probs.as<float>() + (i - begin) * log_probs.dim(1) + s.tokens[next];
        run.ex.download(&r.prompt_logprobs_[next], value, sizeof(float));
      }
    }
  }
}

}  // namespace ft::runtime
