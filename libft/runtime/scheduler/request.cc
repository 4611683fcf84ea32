#include "runtime/scheduler/request.h"

#include <limits>
#include <new>

#include "core/status.h"

namespace ft::runtime {

request::request(decode::options settings, request_callbacks callbacks, int64_t prompt_length, int64_t most_new,
                 std::shared_ptr<std::atomic<bool>> cancellations)
    : settings_(std::move(settings)),
      callbacks_(std::move(callbacks)),
      prompt_length_(prompt_length),
      cancellations_(std::move(cancellations)),
      outputs_(static_cast<size_t>(settings_.num_return_sequences)) {
  for (output& o : outputs_) {
    o.tokens.reserve(static_cast<size_t>(most_new));
    if (keeps_logprobs()) o.logprobs.reserve(static_cast<size_t>(most_new));
    o.score = std::numeric_limits<float>::quiet_NaN();
  }
  if (keeps_prompt_logprobs())
    prompt_logprobs_.assign(static_cast<size_t>(prompt_length), std::numeric_limits<float>::quiet_NaN());
}

size_t request::num_outputs() const {
  std::lock_guard lock(mutex_);
  return num_outputs_;
}

void request::fail_index(size_t index) const {
  fail(FT_ERROR_INVALID_ARGUMENT, "sequence ", index, " was asked for; the request has ", num_outputs_);
}

void request::show_outputs(size_t count) {
  std::lock_guard lock(mutex_);
  num_outputs_ = count;
}

void request::append(size_t index, int32_t token, float logprob) {
  std::lock_guard lock(mutex_);
  outputs_[index].tokens.push_back(token);
  if (keeps_logprobs()) outputs_[index].logprobs.push_back(logprob);
}

void request::append_settled(int32_t token) {
  std::lock_guard lock(mutex_);
  outputs_[0].tokens.push_back(token);
}

void request::end_output(size_t index, ft_finish_reason reason, float score) {
  std::lock_guard lock(mutex_);
  outputs_[index].finish_reason = reason;
  outputs_[index].score = score;
}

void request::replace_output(size_t index, std::span<const int32_t> tokens, std::span<const float> logprobs,
                             float score, ft_finish_reason reason) {
  std::lock_guard lock(mutex_);
  output& out = outputs_[index];
  out.tokens.assign(tokens.begin(), tokens.end());
  out.logprobs.assign(logprobs.begin(), logprobs.end());
  out.score = score;
  out.finish_reason = reason;
}

void request::set_prompt_logprobs(size_t first, std::span<const float> values, std::span<const int32_t> ids) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < values.size(); ++i)
    if (ids[i] >= 0) prompt_logprobs_[first + i] = values[i];
}

void request::finish(ft_finish_reason reason, ft_status status, const char* message) noexcept {
  status_ = status;
  try {
    message_ = message;
  } catch (const std::bad_alloc&) {  // the status says enough
  }
  callbacks_ = {};
  {
    std::lock_guard lock(mutex_);
    for (output& o : outputs_)
      if (o.finish_reason == FT_FINISH_NONE) o.finish_reason = reason;
  }
  finish_.store(reason, std::memory_order_release);
}

}  // namespace ft::runtime
