#include "runtime/scheduler/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/status.h"

namespace ft::runtime {

scheduler::scheduler(const model_limits& limits, const scheduler_options& options)
    : limits_(limits),
      options_(options),
      max_pages_per_row_(std::min(pages_for(limits.max_positions, options.page_tokens), options.num_pages)),
      cancellations_(std::make_shared<std::atomic<bool>>(false)),
      pages_(options.num_pages, options.page_tokens, options.most_idle_pages),
      sampling_(limits.vocab_size),
      selection_(limits.vocab_size, options.log_softmax) {
  running_.reserve(static_cast<size_t>(options.max_batch_size));
  sampling_.reserve(options.max_batch_size);
}

scheduled_step scheduler::make_step(int32_t slot) const {
  scheduled_step step(limits_, slot);
  step.reserve(limits_, options_.max_batch_size, max_pages_per_row_,
               std::max(options_.max_tokens_per_step, options_.max_batch_size));
  return step;
}

std::shared_ptr<scheduled_request> scheduler::prepare(std::span<const int32_t> prompt, decode::options settings,
                                                      request_callbacks callbacks, soft_prompt soft) const {
  const request_plan plan = plan_request(limits_, options_.page_tokens, prompt, settings, soft);
  const int64_t width = settings.width();
  if (width > options_.max_batch_size)
    ft::fail(FT_ERROR_INVALID_ARGUMENT, settings.uses_beams() ? "num_beams" : "num_return_sequences", " is ", width,
             "; the session computes at most ", options_.max_batch_size, " sequences at once: raise max_batch_size");
  if (plan.most_pages > options_.num_pages)
    ft::fail(FT_ERROR_OUT_OF_MEMORY, "the request can grow to ", width, width > 1 ? " sequences of " : " sequence of ",
             plan.last_length, " tokens, which take ", plan.most_pages, " key-value pages of ", options_.page_tokens,
             " tokens; the session has ", options_.num_pages, ": raise kv_cache_bytes, or lower max_new_tokens");
  const bool shares_prefix = options_.prefix_cache && !limits_.is_encoder_decoder && soft.empty();  // of tokens alone
  return std::make_shared<scheduled_request>(limits_, plan, std::move(settings), std::move(callbacks), std::move(soft),
                                             shares_prefix, cancellations_);
}

void scheduler::submit(std::shared_ptr<scheduled_request> r) {
  {
    std::lock_guard lock(mutex_);
    waiting_.push(r);
  }
  if (r->cancelled()) r->cancel();  // before it was in the queue: so that it is looked for there
}

void scheduler::cancel_all() {
  std::lock_guard lock(mutex_);
  waiting_.for_each([](scheduled_request& r) { r.cancel(); });
  for (const request_ptr& r : running_) r->cancel();
}

size_t scheduler::unfinished() const {
  std::lock_guard lock(mutex_);
  return waiting_.size() + running_.size();
}

scheduler_stats scheduler::stats() const {
  std::lock_guard lock(mutex_);
  return published_;
}

// Of the running ones each is asked: settle() has passed over those that were cancelled by then, and they may not come
// into another step, even if the one who cancels has yet to say so in cancellations_. None is ended under the lock:
// what its callbacks hold goes with it, whose destructors may submit or cancel.
void scheduler::retire_cancelled() {
  for (const request_ptr& r : running_)
    if (r->cancelled() && !r->finished()) finish_cancelled(*r);
  if (!cancellations_->exchange(false)) return;
  size_t at = 0;
  const auto next = [&] {  // meanwhile others join behind them, and nobody leaves
    std::lock_guard lock(mutex_);
    return waiting_.find_from(at, [](const scheduled_request& r) { return r.cancelled(); });
  };
  while (const request_ptr r = next()) finish_cancelled(*r);
  std::lock_guard lock(mutex_);
  waiting_.remove_if([](const scheduled_request& r) { return r.finished(); });
}

void scheduler::admit() {
  std::lock_guard lock(mutex_);
  if (std::exchange(room_changed_, false)) waiting_.changed();
  waiting_.admit([this](const scheduled_request& r) { return fits(r); },
                 [this](request_ptr r) {
                   running_rows_ += r->settings().width();
                   reserved_pages_ += r->most_pages;
                   running_.push_back(std::move(r));
                   reuse_prefix(*running_.back());
                 });
}

bool scheduler::fits(const scheduled_request& r) const {
  return running_rows_ + r.settings().width() <= options_.max_batch_size && has_room(r);
}

// Whether there are pages for all that the running requests and this one can come to hold. Pinned pages are counted
// once: of its prompt's pages that are pinned already, a request needs none of its own.
bool scheduler::has_room(const scheduled_request& r) const {
  const int64_t others = pages_.num_pinned() + reserved_pages_;
  if (others + r.most_pages <= pages_.total()) return true;  // whatever is known of its prompt
  sequence::known_pages known;
  if (r.reuses_prefix()) known = r.sequences[0].find_pages(pages_, r.prompt_length() - 1);
  return others + known.unpinned + r.most_pages - known.count <= pages_.total();
}

bool scheduler::can_go_ahead() {
  {
    std::lock_guard lock(mutex_);
    if (std::exchange(room_changed_, false)) waiting_.changed();
    if (waiting_.may_admit([this](const scheduled_request& r) { return fits(r); })) return false;
  }
  int64_t fresh_pages = 0;  // beside what is reserved
  for (const request_ptr& r : running_)
    if (r->settings().uses_beams()) fresh_pages += static_cast<int64_t>(r->num_live);
  if (pages_.num_pinned() + reserved_pages_ + fresh_pages > pages_.total()) return false;
  const auto is_known = [](const request_ptr& r) {
    return !r->cancelled() && std::ranges::all_of(r->live(), [&](const sequence& s) {
      return s.ended || (s.computed == s.length() && r->goes_on_unread(s));
    });
  };
  return std::ranges::all_of(running_, is_known);
}

void scheduler::compose_after(const scheduled_step& now, scheduled_step& next) {
  now.hand_out_logits();
  now.each_row([&](const scheduled_request&, sequence& s) {
    if (!s.ended) s.chosen_at = place_of_choice(now.plan().sampling.shape, s.logits_row);
  });
  compose_rows(next);
}

void scheduler::compose(scheduled_step& step) {
  admit();
  compose_rows(step);
}

// Requests that decode come first, so that a long prompt never holds them up; prompts share what room is left.
void scheduler::compose_rows(scheduled_step& step) {
  step.clear();
  int64_t room = std::max(options_.max_tokens_per_step, running_rows_);
  for (bool decoding : {true, false})
    for (const request_ptr& r : running_) add_rows(step, *r, decoding, room);
  step.finish(pages_, max_pages_per_row_, sampling_);
}

// An encoder reads its whole source in one step, so one source may take more than the room that is left.
void scheduler::add_source(scheduled_step& step, scheduled_request& r, int64_t& room) {
  if (room == 0 || (!step.source_requests().empty() && r.source_length() > room)) return;
  step.add_source(r, pages_);
  room -= std::min(room, r.source_length());
}

void scheduler::add_rows(scheduled_step& step, scheduled_request& r, bool decoding, int64_t& room) {
  if (r.finished() || r.prompt_computed() != decoding) return;
  if (!decoding) reuse_prefix(r);
  if (r.awaits_encoder()) add_source(step, r, room);
  if (r.awaits_encoder()) return;
  for (sequence& s : r.live()) {
    if (s.ended || room == 0 || s.length() == r.last_length) continue;
    s.scheduled = std::min(s.length() - s.computed, room);
    room -= s.scheduled;
    step.add_row(r, s, pages_);
  }
}

// The prompt's last token is computed in any case: its logits are wanted. Asked at each step of a prompt, since a
// request ahead of it may have the same beginning.
void scheduler::reuse_prefix(scheduled_request& r) {
  if (!r.reuses_prefix()) return;
  stats_.prompt_tokens_reused += static_cast<uint64_t>(r.sequences[0].reuse_pages(pages_, r.prompt_length() - 1));
  pin_prompt(r);
}

// What a request pins, its prompt's full pages that are kept, it needs no longer reserve.
void scheduler::pin_prompt(scheduled_request& r) noexcept {
  const sequence& first = r.sequences[0];
  const auto full = static_cast<size_t>(std::min(first.kept, r.prompt_length() / options_.page_tokens));
  if (r.pinned_pages.size() >= full) return;
  for (size_t i = r.pinned_pages.size(); i < full; ++i) {
    pages_.pin(first.pages[i]);
    r.pinned_pages.push_back(first.pages[i]);
    --reserved_pages_;
  }
  room_changed_ = true;  // one that begins alike needs fewer pages now
}

void scheduler::launched(scheduled_step& step) {
  stats_.prompt_tokens += static_cast<uint64_t>(step.plan().sources.num_tokens());
  for (const scheduled_request* r : step.requests())
    if (!r->prompt_computed()) stats_.prompt_tokens += static_cast<uint64_t>(r->sequences[0].scheduled);
  step.each_row([](const scheduled_request&, sequence& s) { s.computed += s.scheduled; });
  stats_.pages_copied += step.plan().copy_from.size();
}

void scheduler::settle(scheduled_step& now, const step_results& results) {
  const uint64_t chosen = selection_.chosen(), copied = selection_.copied();
  now.hand_out_logits();
  now.each_scored([&](scheduled_request& r, int64_t first, const scored_span& span) {
    if (r.finished()) return;
    const auto at = static_cast<size_t>(span.first_score), count = static_cast<size_t>(span.count);
    r.set_prompt_logprobs(static_cast<size_t>(first), results.prompt_logprobs().subspan(at, count),
                          std::span(now.plan().scored_ids).subspan(at, count));
  });
  for (scheduled_request* r : now.requests())
    if (!r->finished()) settle_request(*r, results);  // it may have since the step was composed
  stats_.generated_tokens += selection_.chosen() - chosen;
  stats_.pages_copied += selection_.copied() - copied;
}

void scheduler::settle_request(scheduled_request& r, const step_results& results) {
  try {
    if (r.shares_prefix) {
      for (sequence& s : r.live())
        if (!s.ended) s.keep_pages(pages_);
      pin_prompt(r);
    }
    const token_selection::verdict v = selection_.choose(r, results, pages_);
    if (v.reason == FT_FINISH_CANCELLED)
      finish(r, v.reason, FT_ERROR_CANCELLED, cat("the ", v.callback, " callback cancelled the request").c_str());
    else if (v.reason != FT_FINISH_NONE)
      finish(r, v.reason);
  } catch (const error& e) {
    finish(r, FT_FINISH_ERROR, e.code(), e.what());
  }
}

void scheduler::finish_cancelled(scheduled_request& r) noexcept {
  finish(r, FT_FINISH_CANCELLED, FT_ERROR_CANCELLED, "the request was cancelled");
}

void scheduler::finish(scheduled_request& r, ft_finish_reason reason, ft_status status, const char* message) noexcept {
  reserved_pages_ += static_cast<int64_t>(r.pinned_pages.size());
  r.release_pages(pages_);
  r.finish(reason, status, message);
}

void scheduler::fail(scheduled_step& step, ft_status status, const char* message) noexcept {
  const auto reason = status == FT_ERROR_CANCELLED ? FT_FINISH_CANCELLED : FT_FINISH_ERROR;
  for (std::span<scheduled_request* const> requests : {step.source_requests(), step.requests()})
    for (scheduled_request* r : requests)
      if (!r->finished()) finish(*r, reason, status, message);
}

void scheduler::remove_finished(scheduled_step* under_way) noexcept {
  std::lock_guard lock(mutex_);
  const size_t removed = std::erase_if(running_, [&](request_ptr& r) {
    if (!r->finished()) return false;
    reserved_pages_ -= r->most_pages;
    running_rows_ -= r->settings().width();
    if (under_way) under_way->hold(std::move(r));
    return true;
  });
  room_changed_ |= removed > 0;
  stats_.pages_in_use = pages_.in_use();
  stats_.pages_kept = pages_.idle();
  published_ = stats_;
}

}  // namespace ft::runtime
