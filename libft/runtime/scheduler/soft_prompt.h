// What a prompt holds beside token ids: embeddings in the place of some of its tokens (prompt tuning, arXiv:2104.08691;
// p-tuning, arXiv:2103.10385), and keys and values of a prefix that has no tokens (prefix tuning, arXiv:2101.00190).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ft::runtime {

inline constexpr int32_t embedded_token = -1;  // stands in a prompt where an embedding is given

struct soft_prompt {
  std::vector<int32_t> positions;  // in the prompt (an encoder-decoder's is its encoder's), rising
  std::vector<float> embeddings;   // [positions, the embedding's width]
  int64_t prefix_length = 0;
  std::vector<float> prefix;  // [layers, 2, num_kv_heads, prefix_length, head_dim]

  // The prompt with token 0 wherever an embedding stands, whatever was there. Throws ft::error
  // (FT_ERROR_INVALID_ARGUMENT) when the positions do not rise or lie outside it.
  std::vector<int32_t> make_room(std::span<const int32_t> prompt) const;
  bool empty() const { return positions.empty() && prefix_length == 0; }
};

}  // namespace ft::runtime
