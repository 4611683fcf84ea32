#include "runtime/tune.h"

#include <algorithm>
#include <cstdint>

#include "core/status.h"
#include "runtime/forward/forward.h"

namespace ft::runtime {
namespace {

constexpr int64_t most_tokens = 1 << 20;
constexpr int64_t longest_row = 2048;  // attention is not what is timed

void run_pass(model& m, int64_t tokens) {
  const arch::model_config& config = m.config();
  const int64_t vocabulary = config.is_encoder_decoder
                                 ? std::min(config.tokens.encoder_vocab_size, config.tokens.vocab_size)
                                 : config.tokens.vocab_size;
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>((i * 7919 + 17) % static_cast<size_t>(vocabulary));
  std::vector<int64_t> offsets{0};
  const int64_t row = std::min(config.positions.max, longest_row);
  while (offsets.back() < tokens) offsets.push_back(std::min(offsets.back() + row, tokens));
  forward_inputs inputs;
  inputs.input_ids = tensor(ids.data(), dtype::i32, {tokens});
  inputs.row_offsets = tensor(offsets.data(), dtype::i64, {static_cast<int64_t>(offsets.size())});
  if (config.is_encoder_decoder) {
    inputs.decoder_input_ids = inputs.input_ids;
    inputs.decoder_row_offsets = inputs.row_offsets;
  }
  forward_request wanted = default_outputs(m);
  wanted.logits = false;  // as many as tokens, where generating wants one a row
  forward(m, inputs, wanted);
}

}  // namespace

std::vector<tuned_product> tune(model& m, std::span<const int64_t> token_counts) {
  for (int64_t tokens : token_counts)
    if (tokens < 1 || tokens > most_tokens)
      fail(FT_ERROR_INVALID_ARGUMENT, "tuning for ", tokens, " tokens: give from 1 to ", most_tokens);
  m.ranks().forget_recordings();  // they hold the algorithms of their time
  std::vector<tuned_product> found = m.compute().device().tune([&] {
    for (int64_t tokens : token_counts) run_pass(m, tokens);
  });
  m.ranks().forget_recordings();
  return found;
}

}  // namespace ft::runtime
