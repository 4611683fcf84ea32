#include "runtime/scheduler/soft_prompt.h"

#include "core/status.h"

namespace ft::runtime {

std::vector<int32_t> soft_prompt::make_room(std::span<const int32_t> prompt) const {
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  int64_t before = -1;
  for (int32_t position : positions) {
    if (position <= before || position >= static_cast<int64_t>(tokens.size()))
      fail(FT_ERROR_INVALID_ARGUMENT, "prompt_embedding_positions holds ", position, " after ", before,
           "; they must rise and lie in the prompt of ", tokens.size(), " tokens");
    tokens[static_cast<size_t>(before = position)] = 0;
  }
  return tokens;
}

}  // namespace ft::runtime
