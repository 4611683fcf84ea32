#include "runtime/session.h"

#include <algorithm>
#include <new>
#include <utility>

#include "core/status.h"

namespace ft::runtime {
namespace {

constexpr int64_t page_tokens = 16;

// Takes `num_pages`, or, when the bound was the library's own choice and memory is shorter than it seemed, fewer.
std::unique_ptr<page_pool> make_pool(const executor& where, const kv_layout& layout, int64_t layers, int64_t num_pages,
                                     int64_t fewest, int64_t most_idle) {
  for (;; num_pages = std::max(fewest, num_pages / 2)) {
    try {
      return std::make_unique<page_pool>(where.device(), *where.device_memory(), layout, layers, num_pages, most_idle);
    } catch (const std::bad_alloc&) {
      if (num_pages <= fewest) throw;
    } catch (const error& e) {
      if (e.code() != FT_ERROR_OUT_OF_MEMORY || num_pages <= fewest) throw;
    }
  }
}

}  // namespace

std::shared_ptr<session> session::create(std::shared_ptr<model> m, const session_options& options) {
  if (m->config().head.kind != arch::head_kind::causal_lm)
    fail(FT_ERROR_UNSUPPORTED, "a ", m->config().architecture, " is no causal language model and cannot generate");
  if (options.max_batch_size < 1 || options.max_tokens_per_step < 0 || options.kv_cache_bytes < 0 ||
      options.prefix_cache_bytes < 0)
    fail(FT_ERROR_INVALID_ARGUMENT,
         "max_batch_size, max_tokens_per_step, kv_cache_bytes and prefix_cache_bytes may not be negative");
  session_options own = options;
  if (own.max_tokens_per_step == 0) own.max_tokens_per_step = m->compute().device().tokens_per_pass();
  return std::shared_ptr<session>(new session(std::move(m), own));
}

session::session(std::shared_ptr<model> m, const session_options& options)
    : model_(std::move(m)),
      options_(options),
      goes_ahead_(options.goes_ahead.value_or(model_->compute().stream() != nullptr)),
      steps_{queued_step(model_->config()), queued_step(model_->config())},
      chooser_(model_->config().tokens.vocab_size) {
  const arch::model_config& config = model_->config();
  backend& device = model_->compute().device();
  layout_ = {config.attention.num_kv_heads, config.attention.head_dim, page_tokens, model_->kv_dtype()};

  max_pages_per_row_ = pages_for(config.positions.max, page_tokens);
  const int64_t page_bytes = static_cast<int64_t>(page_pool::bytes_per_page(device, layout_, config.num_layers));
  const int64_t texts = config.is_encoder_decoder ? 2 : 1;                    // a row's own, and its source
  const int64_t most = texts * max_pages_per_row_ * options_.max_batch_size;  // more could never be used
  const bool bounded = options_.kv_cache_bytes > 0;
  const int64_t affordable =
      (bounded ? options_.kv_cache_bytes : static_cast<int64_t>(device.free_memory() / 2)) / page_bytes;
  if (affordable < 1)
    fail(FT_ERROR_OUT_OF_MEMORY, "a key-value page takes ", page_bytes, " bytes; kv_cache_bytes allows ",
         options_.kv_cache_bytes);
  const int64_t num_pages = std::min(most, affordable);
  const int64_t kept_bytes = options_.prefix_cache_bytes > 0 ? options_.prefix_cache_bytes
                             : bounded                       ? options_.kv_cache_bytes
                                                             : default_prefix_cache_bytes;
  pages_ = make_pool(model_->compute(), layout_, config.num_layers, num_pages, bounded ? num_pages : 1,
                     kept_bytes / page_bytes);
  max_pages_per_row_ = std::min(max_pages_per_row_, pages_->total());
  stats_.pages_total = pages_->total();
  stats_.page_tokens = page_tokens;
  stats_.page_bytes = static_cast<uint64_t>(page_bytes);

  const size_t rows = static_cast<size_t>(options_.max_batch_size);
  running_.reserve(rows);
  for (queued_step& s : steps_)
    s.reserve(config, options_.max_batch_size, std::max(options_.max_tokens_per_step, options_.max_batch_size));
  const int64_t most_chosen = step_logits::most_chosen(options_.max_batch_size);
  chosen_memory_ = buffer(*model_->compute().device_memory(), bytes_of(dtype::i32, most_chosen));
  chosen_ = tensor(chosen_memory_.data(), dtype::i32, {most_chosen});
}

std::shared_ptr<request> session::prepare(std::span<const int32_t> prompt, decode::options settings,
                                          request_callbacks callbacks, soft_prompt soft) {
  const arch::model_config& config = model_->config();
  const request_plan plan = plan_request(config, page_tokens, prompt, settings, soft);
  const int64_t width = settings.width();
  if (width > options_.max_batch_size)
    fail(FT_ERROR_INVALID_ARGUMENT, settings.uses_beams() ? "num_beams" : "num_return_sequences", " is ", width,
         "; the session computes at most ", options_.max_batch_size, " sequences at once: raise max_batch_size");
  if (plan.most_pages > stats_.pages_total)
    fail(FT_ERROR_OUT_OF_MEMORY, "the request can grow to ", width, width > 1 ? " sequences of " : " sequence of ",
         plan.last_length, " tokens, which take ", plan.most_pages, " key-value pages of ", page_tokens,
         " tokens; the session has ", stats_.pages_total, ": raise kv_cache_bytes, or lower max_new_tokens");

  auto r =
      std::make_shared<request>(shared_from_this(), plan, std::move(settings), std::move(callbacks), std::move(soft));
  r->shares_prefix_ = options_.prefix_cache && !config.is_encoder_decoder && r->soft_.empty();  // keys of tokens alone
  return r;
}

void session::submit(std::shared_ptr<request> r) {
  std::lock_guard lock(mutex_);
  if (closed_) fail(FT_ERROR_INVALID_ARGUMENT, "the session was destroyed");
  waiting_.push_back(std::move(r));
}

size_t session::step() {
  std::unique_lock lock(mutex_);
  if (!driver_ && unfinished() > 0) {
    driver_ = std::this_thread::get_id();
    lock.unlock();
    drive_one_step();
    lock.lock();
    driver_.reset();
    changed_.notify_all();
  }
  return unfinished();
}

void session::wait(const request& r) {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      if (driver_ == std::this_thread::get_id())
        fail(FT_ERROR_INVALID_ARGUMENT, "a callback may not wait for a request of its own session");
      changed_.wait(lock, [&] { return r.finished() || !driver_; });
      if (r.finished()) return;
    }
    step();
  }
}

void session::close() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (const request_ptr& r : waiting_) r->cancel();
    for (const request_ptr& r : running_) r->cancel();
    if (driver_ == std::this_thread::get_id()) return;  // from a callback: whoever waits for a request ends them
  }
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !driver_; });
      if (unfinished() == 0) {
        ahead_ = nullptr;
        for (queued_step& s : steps_) s.drop();
        pages_.reset();
        return;
      }
    }
    step();
  }
}

session_stats session::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void session::drive_one_step() noexcept {
  const uint64_t allocations_before = allocation_count();
  bool stepped = false;
  uint64_t copies = 0;
  const uint64_t copied_before = chooser_.copied();
  try {
    retire_cancelled();
    queued_step& now = next_step();
    if (!now.empty()) {
      stepped = true;
      copies = now.batch.num_copies();
      if (can_go_ahead()) go_ahead_of(now);
      now.wait();
      choose_tokens(now);
    }
    now.clear();
  } catch (const error& e) {
    fail_steps(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    fail_steps(FT_ERROR_OUT_OF_MEMORY, "out of memory while computing a step");
  } catch (const std::exception& e) {
    fail_steps(FT_ERROR_INTERNAL, e.what());
  }
  remove_finished();
  std::lock_guard lock(mutex_);
  stats_.allocations += allocation_count() - allocations_before;
  stats_.steps += stepped;
  stats_.pages_copied += copies + chooser_.copied() - copied_before;
  stats_.pages_in_use = pages_->in_use();
  stats_.pages_kept = pages_->idle();
  stats_.prompt_tokens_reused += std::exchange(reused_tokens_, 0);
}

// The step that was queued ahead, or else one of all that there is to do now.
queued_step& session::next_step() {
  if (queued_step* ahead = std::exchange(ahead_, nullptr)) return *ahead;
  queued_step& now = steps_[0];
  admit();
  compose(now);
  if (!now.empty()) launch(now);
  return now;
}

// Whether what the step under way leaves to do is known before its tokens are: the next token of every sequence, since
// nobody can join, and every sequence's tokens are chosen on the device.
bool session::can_go_ahead() {
  if (!goes_ahead_) return false;
  {
    std::lock_guard lock(mutex_);
    if (!waiting_.empty() && can_admit(*waiting_.front())) return false;
  }
  int64_t fresh_pages = 0;  // beside what is reserved
  for (const request_ptr& r : running_)
    if (r->settings_.uses_beams()) fresh_pages += static_cast<int64_t>(r->live_);
  if (pages_->num_pinned() + reserved_pages_ + fresh_pages > pages_->total()) return false;
  const auto is_known = [](const request_ptr& r) {
    return !r->cancelled() && std::ranges::all_of(r->live(), [&](const sequence& s) {
      return s.ended || (s.computed == s.length() && r->goes_on_unread(s));
    });
  };
  return std::ranges::all_of(running_, is_known);
}

// Queues the step that follows `now`, as though no sequence ended with the token that `now` gives it. What it computes
// for one that does is lost.
void session::go_ahead_of(queued_step& now) {
  queued_step& next = &now == &steps_[0] ? steps_[1] : steps_[0];
  now.batch.hand_out_logits();
  now.batch.each_row([&](const request&, sequence& s) {
    if (!s.ended) s.chosen_at = now.logits.place_of_choice(s.logits_row);
  });
  compose(next);
  if (next.empty()) return;
  launch(next);
  ahead_ = &next;
}

void session::retire_cancelled() {
  for (const request_ptr& r : running_)
    if (r->cancelled()) finish(*r, FT_FINISH_CANCELLED, FT_ERROR_CANCELLED, "the request was cancelled");
  remove_finished();
}

// First come, first served: a request that does not fit yet holds back those behind it, so that none starves.
void session::admit() {
  std::lock_guard lock(mutex_);
  while (!waiting_.empty()) {
    const request_ptr& next = waiting_.front();
    if (!can_admit(*next)) break;
    if (next->cancelled()) {
      finish(*next, FT_FINISH_CANCELLED, FT_ERROR_CANCELLED, "the request was cancelled");
      waiting_.pop_front();
      continue;
    }
    running_rows_ += next->settings_.width();
    reserved_pages_ += next->most_pages_;
    running_.push_back(next);
    reuse_prefix(*next);
    waiting_.pop_front();
  }
}

bool session::can_admit(const request& r) const {
  return r.cancelled() || (running_rows_ + r.settings_.width() <= options_.max_batch_size && has_room(r));
}

// Requests that decode come first, so that a long prompt never holds them up; prompts share what room is left.
void session::compose(queued_step& next) {
  next.clear();
  int64_t room = std::max(options_.max_tokens_per_step, running_rows_);
  for (bool decoding : {true, false})
    for (const request_ptr& r : running_) add_rows(next, *r, decoding, room);
  next.batch.finish(*pages_, max_pages_per_row_);
}

// An encoder reads its whole source in one step, so one source may take more than the room that is left.
void session::add_source(queued_step& next, request& r, int64_t& room) {
  if (room == 0 || (!next.sources.empty() && r.source_length() > room)) return;
  next.sources.add(r, *pages_);
  room -= std::min(room, r.source_length());
}

void session::add_rows(queued_step& next, request& r, bool decoding, int64_t& room) {
  if (r.prompt_computed() != decoding) return;
  if (!decoding) reuse_prefix(r);
  if (r.awaits_encoder()) add_source(next, r, room);
  if (r.awaits_encoder()) return;
  for (sequence& s : r.live()) {
    if (s.ended || room == 0 || s.length() == r.last_length_) continue;
    s.scheduled = std::min(s.length() - s.computed, room);
    room -= s.scheduled;
    next.batch.add(r, s, *pages_);
  }
}

// Whether there are pages for all that the running requests and this one can come to hold. Pinned pages are counted
// once: of its prompt's pages that are pinned already, a request needs none of its own.
bool session::has_room(const request& r) const {
  sequence::known_pages known;
  if (r.reuses_prefix()) known = r.sequences_[0].find_pages(*pages_, r.prompt_length_ - 1);
  const int64_t others = pages_->num_pinned() + reserved_pages_;
  return others + known.unpinned + r.most_pages_ - known.count <= pages_->total();
}

// The prompt's last token is computed in any case: its logits are wanted. Asked at each step of a prompt, since a
// request ahead of it may have the same beginning.
void session::reuse_prefix(request& r) {
  if (!r.reuses_prefix()) return;
  reused_tokens_ += static_cast<uint64_t>(r.sequences_[0].reuse_pages(*pages_, r.prompt_length_ - 1));
  pin_prompt(r);
}

// What a request pins, its prompt's full pages that the pool keeps, it needs no longer reserve.
void session::pin_prompt(request& r) noexcept {
  const sequence& first = r.sequences_[0];
  const auto full = static_cast<size_t>(std::min(first.kept, r.prompt_length_ / page_tokens));
  for (size_t i = r.pinned_pages_.size(); i < full; ++i) {
    pages_->pin(first.pages[i]);
    r.pinned_pages_.push_back(first.pages[i]);
    --reserved_pages_;
  }
}

void session::launch(queued_step& next) {
  next.launch(*model_, *pages_, recorded_steps_, chosen_);
  auto prompt_tokens = static_cast<uint64_t>(next.sources.num_tokens());
  for (const request* r : next.batch.requests())
    if (!r->prompt_computed()) prompt_tokens += static_cast<uint64_t>(r->sequences_[0].scheduled);
  next.batch.each_row([](const request&, sequence& s) { s.computed += s.scheduled; });
  std::lock_guard lock(mutex_);
  stats_.prompt_tokens += prompt_tokens;
}

void session::choose_tokens(queued_step& now) {
  const uint64_t before = chooser_.chosen();
  now.batch.hand_out_logits();
  for (request* r : now.batch.requests()) {
    if (r->finished()) continue;  // since the step was queued
    try {
      if (r->shares_prefix_) {
        for (sequence& s : r->live())
          if (!s.ended) s.keep_pages(*pages_);
        pin_prompt(*r);
      }
      const token_chooser::verdict v = chooser_.choose(*r, now.logits, *pages_);
      if (v.reason == FT_FINISH_CANCELLED)
        finish(*r, v.reason, FT_ERROR_CANCELLED, cat("the ", v.callback, " callback cancelled the request").c_str());
      else if (v.reason != FT_FINISH_NONE)
        finish(*r, v.reason);
    } catch (const error& e) {
      finish(*r, FT_FINISH_ERROR, e.code(), e.what());
    }
  }
  std::lock_guard lock(mutex_);
  stats_.generated_tokens += chooser_.chosen() - before;
}

void session::finish(request& r, ft_finish_reason reason, ft_status status, const char* message) noexcept {
  r.status_ = status;
  try {
    r.message_ = message;
  } catch (const std::bad_alloc&) {  // the status says enough
  }
  for (auto* rows : {&r.sequences_, &r.next_})
    for (sequence& s : *rows) s.release_pages(*pages_);
  for (auto page = r.pinned_pages_.rbegin(); page != r.pinned_pages_.rend(); ++page) pages_->unpin(*page);
  reserved_pages_ += static_cast<int64_t>(r.pinned_pages_.size());
  r.pinned_pages_.clear();
  for (int32_t page : r.source_pages_) pages_->give_back(page);
  r.source_pages_.clear();
  r.callbacks_ = {};
  {
    std::lock_guard lock(r.mutex_);
    for (output& o : r.outputs_)
      if (o.finish_reason == FT_FINISH_NONE) o.finish_reason = reason;
  }
  r.finish_.store(reason, std::memory_order_release);
}

// A step queued ahead has the requests of the one before it, or some of them.
void session::fail_steps(ft_status status, const char* message) noexcept {
  const auto reason = status == FT_ERROR_CANCELLED ? FT_FINISH_CANCELLED : FT_FINISH_ERROR;
  for (queued_step& s : steps_)
    for (std::span<request* const> requests : {s.sources.requests(), s.batch.requests()})
      for (request* r : requests)
        if (!r->finished()) finish(*r, reason, status, message);
  ahead_ = nullptr;
  for (queued_step& s : steps_) s.drop();
}

// Lets go of finished requests; the last reference to one may go here.
void session::remove_finished() noexcept {
  std::lock_guard lock(mutex_);
  if (ahead_ && ahead_->all_finished()) std::exchange(ahead_, nullptr)->clear();  // nobody will ask for its results
  std::erase_if(running_, [&](request_ptr& r) {
    if (!r->finished()) return false;
    reserved_pages_ -= r->most_pages_;
    running_rows_ -= r->settings_.width();
    if (ahead_) ahead_->hold(std::move(r));
    return true;
  });
}

}  // namespace ft::runtime
