// Requests of several sequences: beams and samples of one prompt. What they cost (the prompt once, pages shared), how
// they stream and end, and that they neither disturb nor are disturbed by what runs beside them.
#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

#include "check.h"
#include "runtime/drawn_requests.h"
#include "runtime/session_fixture.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

std::vector<output> alone(const std::shared_ptr<model>& m, const std::vector<int32_t>& prompt,
                          const decode::options& o) {
  const auto r = run_alone(m, prompt, o);
  CHECK_EQ(r->status(), FT_OK);
  return outputs(*r);
}

decode::options beams(int32_t width, int32_t new_tokens, int32_t returned = 1) {
  decode::options o;
  o.num_beams = width;
  o.num_return_sequences = returned;
  o.max_new_tokens = new_tokens;
  return o;
}

decode::options draw_settings(std::mt19937& random) {
  decode::options o;
  o.max_new_tokens = static_cast<int32_t>(1 + random() % 30);
  o.seed = random();
  o.logprobs = static_cast<decode::logprobs_kind>(random() % 3);
  if (random() % 2) o.stop_token_ids = {tiny_llama::stop_token, 17};
  if (random() % 3 == 0) o.no_repeat_ngram_size = 2;
  switch (random() % 4) {
    case 0:  // greedy
      break;
    case 1:
      o.do_sample = true;
      o.num_return_sequences = static_cast<int32_t>(1 + random() % 4);
      break;
    case 2:
      o.num_beams = static_cast<int32_t>(2 + random() % 4);
      o.do_sample = random() % 2;
      o.num_return_sequences = static_cast<int32_t>(1 + random() % static_cast<uint32_t>(o.num_beams));
      o.early_stopping = static_cast<decode::early_stopping_kind>(random() % 3);
      break;
    default:
      o.num_beams = 4;
      o.num_beam_groups = 2;
      o.diversity_penalty = 0.5f;
      o.num_return_sequences = 4;
  }
  return o;
}

bool same(const std::vector<output>& a, const std::vector<output>& b) {
  const auto bits = [](float x) { return std::bit_cast<uint32_t>(x); };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](const output& x, const output& y) {
    return x.tokens == y.tokens && x.logprobs == y.logprobs && bits(x.score) == bits(y.score) &&
           x.finish_reason == y.finish_reason;
  });
}

}  // namespace

TEST(beams_samples_and_greedy_requests_mix) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  auto m = open_tiny();
  for (bool goes_ahead : {false, true})
    for (const drawn_request& one : run_together(m, random, draw_settings, goes_ahead))
      CHECK_MSG(same(outputs(*one.r), alone(m, one.prompt, one.settings)), "seed ", seed);
}

// As on a GPU: the device goes on from beams that the host has not seen.
TEST(steps_of_beams_queued_ahead_change_nothing) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  auto m = open_tiny();
  const auto draw = [](std::mt19937& from) {
    decode::options o = beams(static_cast<int32_t>(2 + from() % 6), static_cast<int32_t>(1 + from() % 50), 2);
    o.logprobs = static_cast<decode::logprobs_kind>(from() % 3);
    o.early_stopping = static_cast<decode::early_stopping_kind>(from() % 3);
    o.length_penalty = static_cast<float>(from() % 3);
    for (uint32_t stops = from() % 6; stops > 0; --stops)
      o.stop_token_ids.push_back(static_cast<int32_t>(from() % tiny_llama::vocab));
    if (from() % 6 == 0) o.forced_eos_token_ids = {9};
    if (from() % 5 > 0) return o;
    decode::options single;
    single.max_new_tokens = o.max_new_tokens;
    single.logprobs = o.logprobs;
    return single;
  };
  for (int round = 0; round < 4; ++round)
    for (const drawn_request& one : run_together(m, random, draw, true))
      CHECK_MSG(same(outputs(*one.r), alone(m, one.prompt, one.settings)), "seed ", seed);
}

TEST(a_step_of_beams_is_queued_ahead_where_there_are_pages_for_it) {
  auto m = open_tiny();
  const auto pages_after = [&](int64_t num_pages, bool goes_ahead) {
    session_options options{.max_batch_size = 3, .goes_ahead = goes_ahead};
    {
      auto s = session::create(m, options);
      options.kv_cache_bytes = num_pages * static_cast<int64_t>(s->stats().page_bytes);
      s->close();
    }
    auto s = session::create(m, options);
    const std::vector<int32_t> prompt(15, 3);
    auto r = start(*s, prompt, beams(3, 40));
    for (int step = 0; step < 2; ++step) s->step();
    const int64_t pages = s->stats().pages_in_use;
    s->wait(*r);
    CHECK_EQ(r->status(), FT_OK);
    CHECK(same(outputs(*r), alone(m, prompt, beams(3, 40))));
    CHECK_EQ(s->stats().pages_in_use, 0);
    s->close();
    return pages;
  };
  // The request itself may come to hold 3 x 4.
  const int64_t without = pages_after(15, false);
  CHECK_EQ(pages_after(15, true), without + 3);  // the token after the next has its pages already
  CHECK_EQ(pages_after(14, true), without);
}

TEST(the_prompt_is_computed_once_and_its_pages_are_shared) {
  auto m = open_tiny();
  std::mt19937 random(3);
  std::vector<int32_t> prompt(100);
  for (int32_t& t : prompt) t = static_cast<int32_t>(random() % tiny_llama::vocab);
  for (const auto& [sampled, goes_ahead] : {std::pair{false, false}, {true, false}, {false, true}}) {
    auto s = session::create(m, {.goes_ahead = goes_ahead});
    decode::options o = beams(sampled ? 1 : 16, 50, 16);
    o.do_sample = sampled;
    auto r = start(*s, prompt, o);
    int64_t most = 0;
    uint64_t steps = 0;
    while (!r->finished()) {
      s->step();
      most = std::max(most, s->stats().pages_in_use);
      ++steps;
    }
    const session_stats stats = s->stats();
    CHECK_EQ(stats.prompt_tokens, prompt.size());
    // 6 full pages of the prompt are shared; each sequence adds at most the 4 that hold tokens 96 to 149, and what it
    // may need in the step that is queued.
    CHECK_MSG(most <= 6 + 16 * (goes_ahead ? 5 : 4), most);
    // A page is copied only when two sequences are about to write to it: never more than one a sequence and step, and
    // for samples, which fork but once, one each but for the last to write.
    CHECK_MSG(stats.pages_copied <= (sampled ? 15 : 15 * steps), stats.pages_copied);
    CHECK(stats.pages_copied > 0);
    s->close();
  }
}

TEST(a_steady_beam_step_allocates_nothing) {
  auto m = open_tiny();
  for (bool goes_ahead : {false, true}) {
    auto s = session::create(m, {.goes_ahead = goes_ahead});
    std::vector<std::shared_ptr<request>> requests;
    for (int i = 0; i < 3; ++i) requests.push_back(start(*s, {1, 5, 9, 3}, beams(4 + i, 150)));
    decode::options diverse = beams(6, 150, 6);
    diverse.num_beam_groups = 3;
    diverse.diversity_penalty = 1;
    diverse.logprobs = decode::logprobs_kind::raw;
    if (!goes_ahead) requests.push_back(start(*s, {1, 7}, diverse));  // with it no step is queued ahead
    for (int i = 0; i < 10; ++i) s->step();
    const uint64_t before = s->stats().allocations;
    for (int i = 0; i < 100; ++i) s->step();
    CHECK_EQ(s->stats().allocations, before);
    for (auto& r : requests) CHECK(!r->finished());
    s->close();
  }
}

// A callback that changes nothing makes a search look at whole rows.
TEST(beams_find_the_same_among_candidates_and_among_all) {
  auto m = open_tiny();
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  for (int i = 0; i < 30; ++i) {
    decode::options o = beams(static_cast<int32_t>(2 + random() % 7), static_cast<int32_t>(1 + random() % 40), 2);
    o.logprobs = static_cast<decode::logprobs_kind>(random() % 3);
    for (int32_t token = 0; token < static_cast<int32_t>(random() % 6); ++token) o.stop_token_ids.push_back(3 * token);
    o.early_stopping = static_cast<decode::early_stopping_kind>(random() % 3);
    o.length_penalty = static_cast<float>(random() % 3);
    const auto prompt = draw_prompt(random);
    auto s = session::create(m, {});
    const auto whole = start(*s, prompt, o, {.on_logits = [](auto, auto) { return FT_CONTINUE; }});
    const auto few = start(*s, prompt, o), wide = start(*s, prompt, beams(60, 9)), greedy = start(*s, prompt, {});
    for (const auto& r : {whole, few, wide, greedy}) s->wait(*r);
    CHECK_MSG(same(outputs(*few), outputs(*whole)), "seed ", seed, ", trial ", i);
    CHECK_MSG(same(outputs(*wide), alone(m, prompt, beams(60, 9))), "seed ", seed, ", trial ", i);
    CHECK_MSG(same(outputs(*greedy), alone(m, prompt, {})), "seed ", seed, ", trial ", i);
    s->close();
  }
}

// The same of samples and greedy search, with penalties and bans, which are carried out where the logits are.
TEST(tokens_are_the_same_chosen_from_few_logits_and_from_all) {
  auto m = open_tiny();
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  const auto coin = [&] { return random() % 2 == 0; };
  for (int i = 0; i < 120; ++i) {
    decode::options o = coin() ? draw_settings(random) : beams(1, 25);
    if (!o.uses_beams()) o.do_sample = random() % 3 > 0;
    if (!o.do_sample && !o.uses_beams()) o.num_return_sequences = 1;
    o.logprobs = static_cast<decode::logprobs_kind>(random() % 3);
    if (coin()) o.temperature = 0.6f;
    if (coin()) o.top_k = static_cast<int32_t>(random() % 40);
    if (coin()) o.top_p = 0.7f;
    if (random() % 4 == 0) o.top_p_decay = 0.9f;
    if (coin()) o.min_p = 0.05f;
    if (random() % 5 == 0) o.typical_p = 0.8f;
    if (random() % 3 == 0) o.repetition_penalty = 1.5f;
    if (random() % 3 == 0) o.presence_penalty = 0.3f, o.frequency_penalty = 0.1f;
    if (random() % 3 == 0) o.min_new_tokens = std::min(5, o.max_new_tokens);
    if (random() % 3 == 0) o.bad_words = {{4}, {5, 6}};
    if (random() % 4 == 0) o.forced_eos_token_ids = {9};
    const auto prompt = draw_prompt(random);
    auto s = session::create(m, {});
    const auto all = start(*s, prompt, o, {.on_logits = [](auto, auto) { return FT_CONTINUE; }});
    const auto few = start(*s, prompt, o), other = start(*s, prompt, beams(3, 30));
    for (const auto& r : {all, few, other}) s->wait(*r);
    const auto want = outputs(*all), got = outputs(*few);
    CHECK_EQ(got.size(), want.size());
    for (size_t k = 0; k < got.size(); ++k) {
      CHECK_MSG(got[k].tokens == want[k].tokens, "seed ", seed, ", trial ", i);
      CHECK_EQ(got[k].logprobs.size(), want[k].logprobs.size());
      for (size_t t = 0; t < got[k].logprobs.size(); ++t)
        CHECK_MSG(std::fabs(got[k].logprobs[t] - want[k].logprobs[t]) <= 4e-6f, "seed ", seed, ", trial ", i);
    }
    s->close();
  }
}

// What is told is never taken back, and is all of the best sequence in the end.
TEST(streamed_tokens_are_settled) {
  auto m = open_tiny();
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  bool early = false;
  for (int i = 0; i < 30; ++i) {
    auto s = session::create(m, {});
    decode::options o = beams(static_cast<int32_t>(2 + random() % 5), 40);
    o.stop_token_ids = {tiny_llama::stop_token, 17, 40};
    o.length_penalty = static_cast<float>(random() % 3);
    const auto prompt = draw_prompt(random);
    std::vector<int32_t> told;
    auto r = start(*s, prompt, o, {.on_token = [&](int32_t token) {
      told.push_back(token);
      return FT_CONTINUE;
    }});
    while (!r->finished()) {
      s->step();
      CHECK(outputs(*r)[0].tokens == told);
      early |= !told.empty() && !r->finished();
    }
    CHECK_MSG(told == alone(m, prompt, o)[0].tokens, "seed ", seed);
    s->close();
  }
  CHECK_MSG(early, "seed ", seed, ": nothing was told before the end");
}

TEST(callbacks_stop_and_cancel_beams) {
  auto m = open_tiny();
  auto s = session::create(m, {});
  int told = 0;
  auto stopped =
      start(*s, {1, 2}, beams(3, 60), {.on_token = [&](int32_t) { return ++told == 2 ? FT_STOP : FT_CONTINUE; }});
  s->wait(*stopped);
  CHECK_EQ(stopped->finish_reason(), FT_FINISH_STOP);
  CHECK_EQ(outputs(*stopped)[0].tokens.size(), 2u);

  // Every sequence ends with its fourth new token.
  auto asked = start(*s, {1, 2}, beams(3, 60, 3), {.should_stop = [](std::span<const int32_t> tokens) {
    return tokens.size() == 6 ? FT_STOP : FT_CONTINUE;
  }});
  s->wait(*asked);
  CHECK_EQ(outputs(*asked).size(), 3u);
  for (const output& o : outputs(*asked)) {
    CHECK_EQ(o.tokens.size(), 4u);
    CHECK_EQ(o.finish_reason, FT_FINISH_STOP);
  }

  for (int which = 0; which < 3; ++which) {
    request_callbacks callbacks;
    if (which == 0) callbacks.on_token = [](int32_t) { return -1; };
    if (which == 1) callbacks.should_stop = [](auto) { return 7; };
    if (which == 2) callbacks.on_logits = [](auto, auto) { return 7; };
    auto cancelled = start(*s, {1, 2}, beams(3, 60), callbacks);
    s->wait(*cancelled);
    CHECK_EQ(cancelled->status(), FT_ERROR_CANCELLED);
  }
  CHECK_EQ(s->stats().pages_in_use, 0);
  s->close();
}

TEST(cancelling_works_in_the_middle_of_a_prompt_and_of_a_search) {
  auto m = open_tiny();
  session_options options;
  options.max_tokens_per_step = 8;
  auto s = session::create(m, options);
  auto in_prompt = start(*s, std::vector<int32_t>(100, 5), beams(4, 50)), searching = start(*s, {1, 2}, beams(4, 200));
  for (int i = 0; i < 3; ++i) s->step();
  CHECK_EQ(outputs(*in_prompt)[0].tokens.size(), 0u);
  in_prompt->cancel();
  s->step();
  CHECK_EQ(in_prompt->finish_reason(), FT_FINISH_CANCELLED);
  searching->cancel();
  s->step();
  CHECK_EQ(searching->finish_reason(), FT_FINISH_CANCELLED);
  CHECK_EQ(s->stats().pages_in_use, 0);
  s->close();
}

TEST(a_search_that_can_only_go_one_way_returns_what_exists) {
  auto m = open_tiny();
  auto s = session::create(m, {});
  const auto only = [](std::span<const int32_t> tokens, std::span<float> logits) {
    const float kept = logits[tokens.size()];
    std::fill(logits.begin(), logits.end(), -INFINITY);
    logits[tokens.size()] = kept;
    return FT_CONTINUE;
  };
  auto r = start(*s, {1, 2, 3}, beams(4, 5, 4), {.on_logits = only});
  s->wait(*r);
  CHECK_EQ(outputs(*r).size(), 1u);
  CHECK(outputs(*r)[0].tokens == (std::vector<int32_t>{3, 4, 5, 6, 7}));

  auto none = start(*s, {1}, beams(2, 5), {.on_logits = [](auto, std::span<float> logits) {
    std::fill(logits.begin(), logits.end(), -INFINITY);
    return FT_CONTINUE;
  }});
  s->wait(*none);
  CHECK_EQ(none->status(), FT_ERROR_INVALID_ARGUMENT);
  CHECK_MSG(none->message().find("ban every token") != std::string::npos, none->message());
  s->close();
}

TEST(widths_are_checked) {
  auto m = open_tiny();
  session_options options;
  options.max_batch_size = 4;
  auto s = session::create(m, options);
  const auto refused = [&](const char* text, auto change) {
    decode::options o = beams(4, 5);
    change(o);
    CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, text, start(*s, {1}, o));
  };
  refused("max_batch_size", [](auto& o) { o.num_beams = 5; });
  refused("num_beams is 0", [](auto& o) { o.num_beams = 0; });
  refused("num_beams is 129", [](auto& o) { o.num_beams = 129; });
  refused("num_beam_groups is 3", [](auto& o) { o.num_beam_groups = 3; });
  refused("num_return_sequences is 5", [](auto& o) { o.num_return_sequences = 5; });
  refused("not sampled", [](auto& o) { o.num_beam_groups = 2, o.do_sample = true; });
  refused("greedy search would repeat", [](auto& o) { o.num_beams = 1, o.num_return_sequences = 2; });
  refused("length_penalty", [](auto& o) { o.length_penalty = NAN; });
  refused("diversity_penalty", [](auto& o) { o.diversity_penalty = -1; });
  s->close();
}
