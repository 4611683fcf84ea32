#include "runtime/session.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <new>

#include "core/status.h"
#include "ops/rows.h"

namespace ft::runtime {
namespace {

constexpr int64_t page_tokens = 16;

int64_t half_of_free_memory() {
  struct sysinfo info{};
  if (sysinfo(&info) != 0) return int64_t{1} << 30;
  return static_cast<int64_t>((info.freeram + info.bufferram) * info.mem_unit / 2);
}

// Takes `num_pages`, or, when the bound was the library's own choice and memory is shorter than it seemed, fewer.
std::unique_ptr<page_pool> make_pool(backend& device, const kv_layout& layout, int64_t layers, int64_t num_pages,
                                     int64_t fewest) {
  for (;; num_pages = std::max(fewest, num_pages / 2)) {
    try {
      return std::make_unique<page_pool>(device, layout, layers, num_pages);
    } catch (const std::bad_alloc&) {
      if (num_pages <= fewest) throw;
    }
  }
}

}  // namespace

std::shared_ptr<session> session::create(std::shared_ptr<model> m, const session_options& options) {
  if (m->config().head != arch::head_kind::causal_lm)
    fail(FT_ERROR_UNSUPPORTED, "a ", m->config().architecture, " is no causal language model and cannot generate");
  if (options.max_batch_size < 1 || options.max_tokens_per_step < 1 || options.kv_cache_bytes < 0)
    fail(FT_ERROR_INVALID_ARGUMENT, "max_batch_size, max_tokens_per_step and kv_cache_bytes may not be negative");
  return std::shared_ptr<session>(new session(std::move(m), options));
}

session::session(std::shared_ptr<model> m, const session_options& options)
    : model_(std::move(m)),
      options_(options),
      max_positions_(model_->config().max_positions),
      marks_(model_->config().vocab_size),
      sampler_(model_->config().vocab_size) {
  const arch::model_config& config = model_->config();
  backend& device = model_->compute().device();
  layout_ = {config.num_kv_heads, config.head_dim, page_tokens, model_->kv_dtype()};

  max_pages_per_row_ = pages_for(max_positions_);
  const int64_t page_bytes = static_cast<int64_t>(page_pool::bytes_per_page(device, layout_, config.num_layers));
  const int64_t most = max_pages_per_row_ * options_.max_batch_size;  // more could never be used
  const bool bounded = options_.kv_cache_bytes > 0;
  const int64_t affordable = (bounded ? options_.kv_cache_bytes : half_of_free_memory()) / page_bytes;
  if (affordable < 1)
    fail(FT_ERROR_OUT_OF_MEMORY, "a key-value page takes ", page_bytes, " bytes; kv_cache_bytes allows ",
         options_.kv_cache_bytes);
  const int64_t num_pages = std::min(most, affordable);
  pages_ = make_pool(device, layout_, config.num_layers, num_pages, bounded ? num_pages : 1);
  max_pages_per_row_ = std::min(max_pages_per_row_, pages_->total());
  stats_.pages_total = pages_->total();
  stats_.page_tokens = page_tokens;
  stats_.page_bytes = static_cast<uint64_t>(page_bytes);

  const size_t rows = static_cast<size_t>(options_.max_batch_size);
  const size_t tokens = static_cast<size_t>(std::max(options_.max_tokens_per_step, options_.max_batch_size));
  running_.reserve(rows);
  batch_.reserve(rows);
  sampled_.reserve(rows);
  for (auto* per_token : {&token_ids_, &positions_, &slots_}) per_token->reserve(tokens);
  for (auto* per_row : {&context_lengths_, &logit_rows_}) per_row->reserve(rows);
  row_offsets_.reserve(rows + 1);
  raw_logits_.reserve(static_cast<size_t>(config.vocab_size));
}

std::shared_ptr<request> session::prepare(std::span<const int32_t> prompt, decode::options settings,
                                          request_callbacks callbacks) {
  const arch::model_config& config = model_->config();
  settings.validate(config.vocab_size);
  const int64_t length = static_cast<int64_t>(prompt.size());
  if (length < 1) fail(FT_ERROR_INVALID_ARGUMENT, "the prompt is empty; give it at least one token");
  if (length >= max_positions_)
    fail(FT_ERROR_INVALID_ARGUMENT, "the prompt has ", length, " tokens; the model has ", max_positions_,
         " positions, and at least one is needed for a new token");
  for (int32_t token : prompt)
    if (token < 0 || token >= config.vocab_size)
      fail(FT_ERROR_INVALID_ARGUMENT, "the prompt holds token ", token, ", outside the vocabulary of ",
           config.vocab_size);

  const int64_t last = std::min(length + settings.max_new_tokens, max_positions_);
  const int64_t needed = pages_for(last - 1);  // the last token is chosen, never computed
  if (needed > stats_.pages_total)
    fail(FT_ERROR_OUT_OF_MEMORY, "the request can grow to ", last, " tokens, which take ", needed,
         " key-value pages of ", page_tokens, " tokens; the session has ", stats_.pages_total,
         ": raise kv_cache_bytes, or lower max_new_tokens");

  auto r = std::make_shared<request>(shared_from_this(), prompt, std::move(settings), std::move(callbacks));
  r->last_length_ = last;
  r->reserved_pages_ = needed;
  r->tokens_.reserve(static_cast<size_t>(last));
  r->pages_.reserve(static_cast<size_t>(needed));
  if (r->settings_.logprobs) r->logprobs_.reserve(static_cast<size_t>(last - length));
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
  try {
    retire_cancelled();
    admit();
    compose();
    if (!batch_.empty()) {
      compute();
      choose_tokens();
    }
  } catch (const error& e) {
    fail_batch(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    fail_batch(FT_ERROR_OUT_OF_MEMORY, "out of memory while computing a step");
  } catch (const std::exception& e) {
    fail_batch(FT_ERROR_INTERNAL, e.what());
  }
  remove_finished();
  std::lock_guard lock(mutex_);
  stats_.allocations += allocation_count() - allocations_before;
  stats_.steps += !batch_.empty();
  stats_.pages_in_use = pages_->in_use();
  batch_.clear();
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
    if (next->cancelled()) {
      finish(*next, FT_FINISH_CANCELLED, FT_ERROR_CANCELLED, "the request was cancelled");
      waiting_.pop_front();
      continue;
    }
    if (static_cast<int64_t>(running_.size()) == options_.max_batch_size) break;
    if (reserved_pages_ + next->reserved_pages_ > pages_->total()) break;
    reserved_pages_ += next->reserved_pages_;
    running_.push_back(next);
    waiting_.pop_front();
  }
}

// Requests that decode come first, so that a long prompt never holds them up; prompts share what room is left.
void session::compose() {
  batch_.clear();
  int64_t room = std::max<int64_t>(options_.max_tokens_per_step, static_cast<int64_t>(running_.size()));
  for (bool decoding : {true, false}) {
    for (const request_ptr& r : running_) {
      const int64_t pending = r->num_tokens() - r->computed_;
      if ((pending == 1 && r->num_new() > 0) != decoding || room == 0) continue;
      r->scheduled_ = std::min(pending, room);
      room -= r->scheduled_;
      batch_.push_back(r.get());
    }
  }

  for (auto* v : {&token_ids_, &positions_, &row_offsets_, &slots_, &page_table_, &context_lengths_, &logit_rows_})
    v->clear();
  sampled_.clear();
  row_offsets_.push_back(0);
  int64_t widest = 1;
  for (request* r : batch_) {
    const int64_t end = r->computed_ + r->scheduled_;
    while (static_cast<int64_t>(r->pages_.size()) < pages_for(end)) r->pages_.push_back(pages_->take());
    widest = std::max(widest, pages_for(end));
    for (int64_t position = r->computed_; position < end; ++position) {
      token_ids_.push_back(r->tokens_[static_cast<size_t>(position)]);
      positions_.push_back(static_cast<int32_t>(position));
      const int64_t page = r->pages_[static_cast<size_t>(position / page_tokens)];
      slots_.push_back(static_cast<int32_t>(page * page_tokens + position % page_tokens));
    }
    row_offsets_.push_back(static_cast<int32_t>(token_ids_.size()));
    context_lengths_.push_back(static_cast<int32_t>(end));
    if (end == r->num_tokens()) {
      logit_rows_.push_back(row_offsets_.back() - 1);
      sampled_.push_back(r);
    }
  }
  // One width for all rows, rounded up so that a growing context seldom needs a larger table.
  widest = std::min((widest + 63) / 64 * 64, max_pages_per_row_);
  page_table_.resize(batch_.size() * static_cast<size_t>(widest), 0);
  for (size_t row = 0; row < batch_.size(); ++row)
    std::copy(batch_[row]->pages_.begin(), batch_[row]->pages_.end(),
              page_table_.begin() + static_cast<std::ptrdiff_t>(row) * widest);
}

void session::compute() {
  const auto all_cancelled = [](void* self) {
    const auto& batch = static_cast<session*>(self)->batch_;
    return std::all_of(batch.begin(), batch.end(), [](const request* r) { return r->cancelled(); });
  };
  const int64_t vocab_size = model_->config().vocab_size;
  logits_.resize(sampled_.size() * static_cast<size_t>(vocab_size));
  model_->compute().compute(
      [&](nn::run& run) {
        nn::ragged_batch batch;
        batch.num_tokens = static_cast<int64_t>(token_ids_.size());
        batch.num_rows = static_cast<int64_t>(batch_.size());
        batch.token_ids = upload_i32(run, token_ids_);
        batch.positions = upload_i32(run, positions_);
        batch.row_offsets = upload_i32(run, row_offsets_);
        batch.slots = upload_i32(run, slots_);
        batch.page_table = upload_i32(run, page_table_)
                               .reshape({batch.num_rows, static_cast<int64_t>(page_table_.size()) / batch.num_rows});
        batch.context_lengths = upload_i32(run, context_lengths_);
        batch.cache = &pages_->layers();
        const tensor hidden = model_->network().hidden(run, batch);
        if (sampled_.empty()) return;

        const tensor index = upload_i32(run, logit_rows_);
        const tensor rows = run.activations.make(dtype::f32, {index.dim(0), hidden.dim(1)});
        ops::gather_rows(run.ex, {.out = rows, .x = hidden, .index = index});
        const tensor logits = model_->network().logits(run, rows);
        FT_CHECK(logits.contiguous());
        run.ex.device.download(logits_.data(), logits.data, logits_.size() * sizeof(float));
      },
      all_cancelled, this);

  uint64_t prompt_tokens = 0;
  for (request* r : batch_) {
    if (r->computed_ < r->prompt_length_)
      prompt_tokens += static_cast<uint64_t>(std::min(r->scheduled_, r->prompt_length_ - r->computed_));
    r->computed_ += r->scheduled_;
  }
  std::lock_guard lock(mutex_);
  stats_.prompt_tokens += prompt_tokens;
}

void session::choose_tokens() {
  const size_t vocab_size = static_cast<size_t>(model_->config().vocab_size);
  for (size_t i = 0; i < sampled_.size(); ++i) {
    request& r = *sampled_[i];
    try {
      choose_token(r, std::span(logits_).subspan(i * vocab_size, vocab_size));
    } catch (const error& e) {
      finish(r, FT_FINISH_ERROR, e.code(), e.what());
    }
  }
  std::lock_guard lock(mutex_);
  stats_.generated_tokens += sampled_.size();
}

void session::choose_token(request& r, std::span<float> logits) {
  const decode::options& settings = r.settings_;
  const int64_t num_new = r.num_new();
  const auto cancelled_by = [&](const char* callback) {
    finish(r, FT_FINISH_CANCELLED, FT_ERROR_CANCELLED,
           cat("the ", callback, " callback cancelled the request").c_str());
  };
  if (r.cancelled()) return;                                                // retired before the next step
  if (settings.logprobs) raw_logits_.assign(logits.begin(), logits.end());  // the distribution before any processing
  if (r.callbacks_.on_logits && r.callbacks_.on_logits(r.tokens_, logits) != FT_CONTINUE) return cancelled_by("logits");
  decode::process_logits(logits, r.tokens_, num_new, settings, marks_);
  const int32_t token =
      settings.do_sample ? sampler_.sample(logits, settings, static_cast<uint64_t>(num_new)) : decode::argmax(logits);
  {
    std::lock_guard lock(r.mutex_);
    r.tokens_.push_back(token);
    if (settings.logprobs) r.logprobs_.push_back(decode::log_probability(raw_logits_, token));
  }
  const auto& stops = settings.stop_token_ids;
  const int verdict = r.callbacks_.on_token ? r.callbacks_.on_token(token) : FT_CONTINUE;
  if (verdict != FT_CONTINUE && verdict != FT_STOP) return cancelled_by("token");
  if (verdict == FT_STOP || std::find(stops.begin(), stops.end(), token) != stops.end())
    finish(r, FT_FINISH_STOP);
  else if (r.num_tokens() == r.last_length_)
    finish(r, FT_FINISH_LENGTH);
}

void session::finish(request& r, ft_finish_reason reason, ft_status status, const char* message) noexcept {
  r.status_ = status;
  try {
    r.message_ = message;
  } catch (const std::bad_alloc&) {  // the status says enough
  }
  for (int32_t page : r.pages_) pages_->give_back(page);
  r.pages_.clear();
  r.callbacks_ = {};
  r.finish_.store(reason, std::memory_order_release);
}

void session::fail_batch(ft_status status, const char* message) noexcept {
  const auto reason = status == FT_ERROR_CANCELLED ? FT_FINISH_CANCELLED : FT_FINISH_ERROR;
  for (request* r : batch_)
    if (!r->finished()) finish(*r, reason, status, message);
}

// Lets go of finished requests; the last reference to one may go here.
void session::remove_finished() noexcept {
  std::lock_guard lock(mutex_);
  std::erase_if(running_, [&](const request_ptr& r) {
    if (!r->finished()) return false;
    reserved_pages_ -= r->reserved_pages_;
    return true;
  });
}

}  // namespace ft::runtime
