// What a request asks for, worked out before it is made: lengths, pages against a count one by one, and what is
// refused.
#include "runtime/scheduler/request_plan.h"

#include <random>
#include <set>

#include "check.h"
#include "scheduler/driver.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

// The pages of `width` sequences that are as long as they get, where those full of the prompt are the same for all.
int64_t count_pages(int64_t prefix, int64_t prompt, int64_t last, int64_t width, int64_t page_tokens) {
  std::set<std::pair<int64_t, int64_t>> pages;  // whose (-1: everybody's), and which
  for (int64_t sequence = 0; sequence < width; ++sequence)
    for (int64_t position = 0; position < prefix + last - 1; ++position) {
      const int64_t page = position / page_tokens;
      const bool common = (page + 1) * page_tokens <= prefix + prompt;
      pages.emplace(common ? -1 : sequence, page);
    }
  return static_cast<int64_t>(pages.size());
}

request_plan plan(const model_limits& limits, const std::vector<int32_t>& prompt, decode::options settings = {},
                  const soft_prompt& soft = {}) {
  return plan_request(limits, 16, prompt, settings, soft);
}

}  // namespace

TEST(pages_of_a_request_are_counted) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  for (int i = 0; i < 2000; ++i) {
    const int64_t page_tokens = 1 + random() % 17;
    decode::options o;
    o.max_new_tokens = static_cast<int32_t>(1 + random() % 120);
    o.do_sample = true;
    (random() % 2 ? o.num_beams : o.num_return_sequences) = static_cast<int32_t>(1 + random() % 6);
    soft_prompt soft;
    if (random() % 2) soft.prefix_length = static_cast<int64_t>(random() % 40);
    const std::vector<int32_t> prompt(1 + random() % 60, 3);
    const auto length = static_cast<int64_t>(prompt.size());
    const int32_t asked = o.max_new_tokens;
    const request_plan p = plan_request(decoder_limits(), page_tokens, prompt, o, soft);
    CHECK_EQ(p.last_length, std::min<int64_t>(length + asked, 160 - soft.prefix_length));
    CHECK_EQ(p.last_length, length + o.max_new_tokens);
    CHECK_EQ(p.row_pages, count_pages(soft.prefix_length, length, p.last_length, 1, page_tokens));
    CHECK_MSG(p.most_pages == count_pages(soft.prefix_length, length, p.last_length, o.width(), page_tokens), "seed ",
              seed);
    CHECK(p.source.empty() && p.source_pages == 0 && p.prompt == prompt);
  }
}

TEST(an_encoder_decoder_reads_the_prompt_and_starts_with_its_own_token) {
  decode::options o;
  const std::vector<int32_t> prompt(33, 45);
  request_plan p = plan(encoder_decoder_limits(), prompt, o);
  CHECK(p.source == prompt && p.prompt == (std::vector<int32_t>{2}));
  CHECK_EQ(p.source_pages, 3);
  CHECK_EQ(p.most_pages, 3 + (1 + 64 - 1) / 16);
  o.decoder_input_ids = {5, 6};
  CHECK(plan(encoder_decoder_limits(), prompt, o).prompt == (std::vector<int32_t>{2, 5, 6}));
  o.decoder_input_ids = {2, 6};
  CHECK(plan(encoder_decoder_limits(), prompt, o).prompt == o.decoder_input_ids);
  model_limits limits = encoder_decoder_limits();
  limits.decoder_start_token_id = -1;
  CHECK(plan(limits, prompt, o).prompt == o.decoder_input_ids);
}

TEST(an_embedding_stands_where_a_token_was) {
  const soft_prompt soft{.positions = {0, 2}, .embeddings = {1, 2, 3, 4}};
  CHECK(plan(decoder_limits(), {99, 4, -7, 5}, {}, soft).prompt == (std::vector<int32_t>{-1, 4, -1, 5}));
  const request_plan p = plan(encoder_decoder_limits(), {99, 4, -7, 5}, {}, soft);
  CHECK(p.source == (std::vector<int32_t>{0, 4, 0, 5}) && p.prompt == (std::vector<int32_t>{2}));
}

TEST(a_request_that_cannot_be_is_refused_and_told_why) {
  const auto refused = [](ft_status status, const char* text, const model_limits& limits, std::vector<int32_t> prompt,
                          decode::options o = {},
                          soft_prompt soft = {}) { CHECK_ERROR(status, text, plan(limits, prompt, o, soft)); };
  const model_limits decoder = decoder_limits(), two_sided = encoder_decoder_limits();
  constexpr ft_status invalid = FT_ERROR_INVALID_ARGUMENT;
  decode::options ids;
  refused(invalid, "the prompt is empty", decoder, {});
  refused(invalid, "the prompt holds token 40, outside the vocabulary of 40", decoder, {1, 40});
  refused(invalid, "holds token -1", decoder, {-1});
  refused(invalid, "has 160 tokens; the model has 160 positions, and at least one is needed for a new token", decoder,
          std::vector<int32_t>(160, 1));
  plan(decoder, std::vector<int32_t>(159, 1));
  refused(invalid, "behind a prefix of 100 positions, the prompt has 60 tokens", decoder, std::vector<int32_t>(60, 1),
          {}, {.prefix_length = 100});
  plan(decoder, std::vector<int32_t>(59, 1), {}, {.prefix_length = 100});
  refused(invalid, "the prompt holds token 50, outside the vocabulary of 50", two_sided, {50});
  refused(invalid, "the prompt has 161 tokens; the model has 160 positions", two_sided, std::vector<int32_t>(161, 1));
  plan(two_sided, std::vector<int32_t>(160, 1));
  refused(FT_ERROR_UNSUPPORTED, "prefix_key_values belong to decoders", two_sided, {1}, {}, {.prefix_length = 1});
  ids.decoder_input_ids = {40};
  refused(invalid, "decoder_input_ids holds token 40", two_sided, {1}, ids);
  refused(invalid, "is no encoder-decoder", decoder, {1}, ids);
  model_limits startless = two_sided;
  startless.decoder_start_token_id = -1;
  refused(invalid, "names no decoder_start_token_id", startless, {1});
  refused(invalid, "prompt_embedding_positions holds 1 after 1", decoder, {1, 2}, {}, {.positions = {1, 1}});
  refused(invalid, "prompt_embedding_positions holds 2 after -1", decoder, {1, 2}, {}, {.positions = {2}});
  ids = {};
  ids.max_new_tokens = 0;
  refused(invalid, "max_new_tokens is 0", decoder, {1}, ids);
}
