#include "runtime/request.h"

#include <algorithm>

namespace ft::runtime {

request::request(std::shared_ptr<session> owner, std::span<const int32_t> prompt, decode::options settings,
                 request_callbacks callbacks)
    : owner_(std::move(owner)),
      settings_(std::move(settings)),
      callbacks_(std::move(callbacks)),
      prompt_length_(static_cast<int64_t>(prompt.size())),
      tokens_(prompt.begin(), prompt.end()) {}

size_t request::copy_new(int32_t* tokens, float* logprobs, size_t capacity) const {
  std::lock_guard lock(mutex_);
  const size_t count = static_cast<size_t>(num_new());
  const size_t copied = std::min(count, capacity);
  if (tokens) std::copy_n(tokens_.begin() + prompt_length_, copied, tokens);
  if (logprobs) std::copy_n(logprobs_.begin(), std::min(copied, logprobs_.size()), logprobs);
  return count;
}

}  // namespace ft::runtime
