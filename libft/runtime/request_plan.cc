#include "runtime/request_plan.h"

#include <algorithm>
#include <string>

#include "core/status.h"

namespace ft::runtime {
namespace {

void check_tokens(const arch::model_config& config, std::span<const int32_t> tokens, const std::string& what,
                  int64_t vocab_size, int64_t most) {
  const auto length = static_cast<int64_t>(tokens.size());
  if (length < 1) fail(FT_ERROR_INVALID_ARGUMENT, what, " is empty; give it at least one token");
  if (length > most)
    fail(FT_ERROR_INVALID_ARGUMENT, what, " has ", length, " tokens; the model has ", config.positions.max,
         " positions", most < config.positions.max ? ", and at least one is needed for a new token" : "");
  for (int32_t token : tokens)
    if (token < 0 || token >= vocab_size)
      fail(FT_ERROR_INVALID_ARGUMENT, what, " holds token ", token, ", outside the vocabulary of ", vocab_size);
}

// What an encoder-decoder's decoder starts with: as in transformers, the start token, and then what the caller gave.
std::vector<int32_t> decoder_prompt(const arch::model_config& config, const std::vector<int32_t>& given) {
  const int32_t start = config.tokens.decoder_start_id;
  if (!given.empty() && (given.front() == start || start < 0)) return given;
  if (start < 0)
    fail(FT_ERROR_INVALID_ARGUMENT, "the checkpoint names no decoder_start_token_id; give decoder_input_ids");
  std::vector<int32_t> tokens{start};
  tokens.insert(tokens.end(), given.begin(), given.end());
  return tokens;
}

// What is read, by the encoder and by the decoder.
void read_prompt(request_plan& plan, const arch::model_config& config, std::span<const int32_t> prompt,
                 const decode::options& settings, const soft_prompt& soft) {
  if (config.is_encoder_decoder) {
    if (soft.prefix_length > 0)
      fail(FT_ERROR_UNSUPPORTED, "prefix_key_values belong to decoders; a ", config.architecture,
           " has an encoder too");
    plan.source = soft.make_room(prompt);
    check_tokens(config, plan.source, "the prompt", config.tokens.encoder_vocab_size, config.positions.max);
    plan.prompt = decoder_prompt(config, settings.decoder_input_ids);
  } else {
    if (!settings.decoder_input_ids.empty())
      fail(FT_ERROR_INVALID_ARGUMENT, "decoder_input_ids are given, but a ", config.architecture,
           " is no encoder-decoder");
    plan.prompt = soft.make_room(prompt);
  }
  const int64_t prefix = soft.prefix_length;
  const std::string what = prefix > 0                  ? cat("behind a prefix of ", prefix, " positions, the prompt")
                           : config.is_encoder_decoder ? "decoder_input_ids"
                                                       : "the prompt";
  check_tokens(config, plan.prompt, what, config.tokens.vocab_size, config.positions.max - prefix - 1);
  if (config.is_encoder_decoder) return;
  for (int32_t position : soft.positions) plan.prompt[static_cast<size_t>(position)] = embedded_token;
}

}  // namespace

request_plan plan_request(const arch::model_config& config, int64_t page_tokens, std::span<const int32_t> prompt,
                          decode::options& settings, const soft_prompt& soft) {
  settings.validate(config.tokens.vocab_size);
  request_plan plan;
  read_prompt(plan, config, prompt, settings, soft);

  const int64_t prefix = soft.prefix_length, width = settings.width();
  const auto length = static_cast<int64_t>(plan.prompt.size());
  plan.last_length = std::min(length + settings.max_new_tokens, config.positions.max - prefix);
  settings.max_new_tokens = static_cast<int32_t>(plan.last_length - length);

  plan.source_pages = pages_for(static_cast<int64_t>(plan.source.size()), page_tokens);
  plan.row_pages = pages_for(prefix + plan.last_length - 1, page_tokens);  // the last token is chosen, never computed
  const int64_t shared = width > 1 ? (prefix + length) / page_tokens : 0;
  plan.most_pages = plan.source_pages + shared + width * (plan.row_pages - shared);
  return plan;
}

}  // namespace ft::runtime
