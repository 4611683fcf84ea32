// Sessions: requests that join and leave, whose tokens depend on nobody else; cancellation, failure, pages, statistics.
#include <algorithm>
#include <atomic>
#include <random>
#include <thread>

#include "check.h"
#include "runtime/session_fixture.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

std::vector<int32_t> new_tokens(const request& r) {
  std::vector<int32_t> tokens;
  r.read_output(0, [&](const output& o) { tokens = o.tokens; });
  return tokens;
}

std::vector<int32_t> alone(const std::shared_ptr<model>& m, const std::vector<int32_t>& prompt, decode::options o) {
  return new_tokens(*run_alone(m, prompt, std::move(o)));
}

// Key-value memory of so many pages.
int64_t bytes_of_pages(model& m, int64_t pages) {
  const kv_layout layout{tiny_llama::kv_heads, tiny_llama::head_dim, 16, dtype::f32};
  return pages * static_cast<int64_t>(kv_storage::bytes_per_page(m.compute().device(), layout, tiny_llama::layers));
}

decode::options draw_settings(std::mt19937& random) {
  decode::options o;
  o.max_new_tokens = static_cast<int32_t>(1 + random() % 40);
  o.do_sample = random() % 2;
  o.temperature = 0.5f + static_cast<float>(random() % 100) / 50;
  o.top_k = random() % 3 ? 0 : 10;
  o.top_p = random() % 3 ? 1 : 0.9f;
  o.repetition_penalty = random() % 3 ? 1 : 1.3f;
  o.no_repeat_ngram_size = random() % 4 ? 0 : 3;
  o.seed = random();
  o.logprobs = static_cast<decode::logprobs_kind>(random() % 3);
  if (random() % 2) o.stop_token_ids = {tiny_llama::stop_token, 17};
  return o;
}

}  // namespace

TEST(tokens_do_not_depend_on_the_batch) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  auto m = open_tiny();
  for (const drawn_request& one : run_together(m, random, draw_settings)) {
    CHECK_MSG(new_tokens(*one.r) == alone(m, one.prompt, one.settings), "seed ", seed);
    const bool stopped = one.r->finish_reason() == FT_FINISH_STOP;
    if (!stopped) CHECK_EQ(static_cast<int32_t>(new_tokens(*one.r).size()), one.settings.max_new_tokens);
  }
}

// As on a GPU: what steps queued ahead compute is what they would have computed in their turn, whoever joins, ends,
// stops or is cancelled meanwhile.
TEST(steps_queued_ahead_change_no_token) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  auto m = open_tiny();
  const auto draw = [](std::mt19937& from) {
    decode::options o = draw_settings(from);
    if (from() % 4 == 0) return o;
    decode::options plain;  // of these every step may be queued ahead
    plain.max_new_tokens = o.max_new_tokens;
    plain.do_sample = o.do_sample;
    plain.temperature = o.temperature;
    plain.seed = o.seed;
    plain.stop_token_ids = o.stop_token_ids;
    if (o.do_sample && from() % 3 == 0) plain.num_return_sequences = 3;
    if (from() % 8 == 0) plain.forced_eos_token_ids = {5};
    if (from() % 3 == 0) plain.repetition_penalty = 1.4f;
    if (from() % 3 == 0) plain.presence_penalty = 0.4f, plain.frequency_penalty = 0.2f;
    if (from() % 4 == 0) plain.min_new_tokens = std::min(4, plain.max_new_tokens);
    if (from() % 4 == 0) plain.bad_words = {{7}, {9}};
    if (from() % 3 == 0) plain.top_k = static_cast<int32_t>(1 + from() % 40);
    if (from() % 3 == 0) plain.top_p = 0.7f;
    if (from() % 4 == 0) plain.min_p = 0.03f;
    plain.logprobs = static_cast<decode::logprobs_kind>(from() % 3);
    return plain;
  };
  for (int round = 0; round < 5; ++round)
    for (const drawn_request& one : run_together(m, random, draw, true))
      CHECK_MSG(new_tokens(*one.r) == alone(m, one.prompt, one.settings), "seed ", seed);
}

TEST(a_step_is_queued_ahead_where_its_tokens_are_known_to_the_device) {
  auto m = open_tiny();
  const std::vector<int32_t> a_page(16, 3);
  decode::options greedy, penalised, cut, without_repetition;
  penalised.repetition_penalty = 1.3f;
  cut.do_sample = true;
  cut.top_p = 0.9f;
  without_repetition.no_repeat_ngram_size = 3;
  const auto pages_after_prompt = [&](const decode::options& o, int max_new, bool goes_ahead) {
    auto s = session::create(m, {.goes_ahead = goes_ahead});
    decode::options own = o;
    own.max_new_tokens = max_new;
    auto r = start(*s, a_page, own);
    s->step();
    const int64_t pages = s->stats().pages_in_use;
    s->close();  // whatever is under way
    CHECK_EQ(r->finished(), true);
    return pages;
  };
  CHECK_EQ(pages_after_prompt(greedy, 40, false), 1);
  CHECK_EQ(pages_after_prompt(greedy, 40, true), 2);  // the new token has its page already
  CHECK_EQ(pages_after_prompt(greedy, 1, true), 0);
  CHECK_EQ(pages_after_prompt(penalised, 40, true), 2);
  CHECK_EQ(pages_after_prompt(cut, 40, true), 2);
  CHECK_EQ(pages_after_prompt(without_repetition, 40, true), 1);
}

TEST(a_request_may_end_while_its_next_step_is_under_way) {
  auto m = open_tiny();
  auto s = session::create(m, {.max_batch_size = 2, .goes_ahead = true});
  decode::options o;
  o.max_new_tokens = 40;
  const std::vector<int32_t> prompt{1, 5, 9, 3};
  const std::vector<int32_t> expected = alone(m, prompt, o);
  int seen = 0;
  auto stopped = start(*s, prompt, o, {.on_token = [&](int32_t) { return ++seen == 3 ? FT_STOP : FT_CONTINUE; }});
  auto cancelled = start(*s, prompt, o);
  auto waiting = start(*s, prompt, o);  // there is no room for it yet
  for (int i = 0; i < 4; ++i) s->step();
  CHECK_EQ(stopped->finish_reason(), FT_FINISH_STOP);
  CHECK_EQ(new_tokens(*stopped).size(), 3u);
  stopped.reset();
  cancelled->cancel();
  s->step();
  CHECK_EQ(cancelled->finish_reason(), FT_FINISH_CANCELLED);
  cancelled.reset();
  s->wait(*waiting);
  CHECK(new_tokens(*waiting) == expected);
  CHECK_EQ(s->stats().pages_in_use, 0);
  auto last = start(*s, prompt, o, {.on_token = [](int32_t) { return FT_STOP; }});
  s->wait(*last);
  auto next = start(*s, prompt, o);
  s->wait(*next);
  CHECK(new_tokens(*next) == expected);
  s->close();
}

// One of two samples ends; nobody keeps its pages, and what it held is another's by the time the other sample goes on.
TEST(pages_of_a_sample_that_has_ended_are_not_kept_again) {
  auto m = open_tiny();
  auto s = session::create(m, {.max_batch_size = 2, .prefix_cache_bytes = 1});
  decode::options o;
  o.do_sample = true;
  o.num_return_sequences = 2;
  o.max_new_tokens = 100;
  int ended = 0;
  const std::vector<int32_t> prompt{1, 5, 9, 3};
  auto r = start(*s, prompt, o, {.should_stop = [&](std::span<const int32_t> tokens) {
    return tokens.size() == 40 && ended++ == 0 ? FT_STOP : FT_CONTINUE;
  }});
  s->wait(*r);
  CHECK_MSG(r->status() == FT_OK, r->message());
  CHECK_EQ(s->stats().pages_in_use, 0);
  s->close();
}

TEST(a_session_closed_by_its_callback_goes_with_its_requests) {
  auto m = open_tiny();
  auto s = session::create(m, {.goes_ahead = true});
  const std::weak_ptr<session> gone = s;
  decode::options o;
  o.max_new_tokens = 40;
  int seen = 0;
  auto closing = start(*s, {1, 5}, o, {.on_token = [&](int32_t) {
    if (++seen == 3) s->close();
    return FT_CONTINUE;
  }});
  auto other = start(*s, {4}, o);
  s->wait(*closing);
  CHECK_EQ(closing->status(), FT_ERROR_CANCELLED);
  CHECK_EQ(other->status(), FT_ERROR_CANCELLED);
  closing.reset(), other.reset(), s.reset();
  CHECK(gone.expired());
}

TEST(threads_may_drive_together) {
  auto m = open_tiny();
  auto s = session::create(m, {});
  std::atomic<int> finished{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < 10; ++i) {
        auto r = start(*s, draw_prompt(random), draw_settings(random));
        if (i % 4 == 3) r->cancel();
        s->wait(*r);
        finished += r->finished();
      }
    });
  for (auto& t : threads) t.join();
  CHECK_EQ(finished.load(), 60);
  CHECK_EQ(s->stats().pages_in_use, 0);
  s->close();
}

TEST(a_steady_step_allocates_nothing) {
  auto m = open_tiny();
  for (bool goes_ahead : {false, true}) {
    auto s = session::create(m, {.goes_ahead = goes_ahead});
    decode::options o;
    o.max_new_tokens = 100;
    std::vector<std::shared_ptr<request>> requests;
    for (int i = 0; i < 4; ++i) requests.push_back(start(*s, {1, 5, 9, 3}, o));
    for (int i = 0; i < 5; ++i) s->step();
    const uint64_t before = s->stats().allocations;
    for (int i = 0; i < 50; ++i) s->step();
    CHECK_EQ(s->stats().allocations, before);
    s->close();
  }
}

TEST(cancelling_ends_a_request_and_returns_its_pages) {
  auto m = open_tiny();
  auto s = session::create(m, {});
  decode::options o;
  o.max_new_tokens = 200;
  auto cancelled = start(*s, {1, 2, 3}, o), other = start(*s, {4, 5}, o);
  s->step();
  CHECK(s->stats().pages_in_use > 0);
  cancelled->cancel();
  s->step();
  CHECK_EQ(cancelled->finish_reason(), FT_FINISH_CANCELLED);
  CHECK_EQ(cancelled->status(), FT_ERROR_CANCELLED);
  CHECK(!other->finished());
  CHECK_EQ(s->stats().pages_in_use, 1);
  s->close();
  CHECK_EQ(other->finish_reason(), FT_FINISH_CANCELLED);
}

TEST(callbacks_stop_cancel_and_steer) {
  auto m = open_tiny();
  auto s = session::create(m, {});
  decode::options o;
  o.max_new_tokens = 20;
  int seen = 0;
  auto stopped = start(*s, {1}, o, {.on_token = [&](int32_t) { return ++seen == 3 ? FT_STOP : FT_CONTINUE; }});
  s->wait(*stopped);
  CHECK_EQ(stopped->finish_reason(), FT_FINISH_STOP);
  CHECK_EQ(new_tokens(*stopped).size(), 3u);

  auto cancelled = start(*s, {1}, o, {.on_token = [](int32_t) { return -7; }});
  s->wait(*cancelled);
  CHECK_EQ(cancelled->status(), FT_ERROR_CANCELLED);

  auto steered = start(*s, {1}, o, {.on_logits = [](std::span<const int32_t> tokens, std::span<float> logits) {
    logits[(static_cast<size_t>(tokens.back()) + 1) % logits.size()] = 1e9f;
    return FT_CONTINUE;
  }});
  s->wait(*steered);
  const auto tokens = new_tokens(*steered);
  for (size_t i = 0; i < tokens.size(); ++i) CHECK_EQ(tokens[i], static_cast<int32_t>(i) + 2);

  // Waiting inside a callback would wait for itself.
  std::shared_ptr<request> inner = start(*s, {3}, o);
  ft_status refused = FT_OK;
  auto outer = start(*s, {1}, o, {.on_token = [&](int32_t) {
    try {
      s->wait(*inner);
    } catch (const error& e) {
      refused = e.code();
    }
    return FT_STOP;
  }});
  s->wait(*outer);
  CHECK_EQ(refused, FT_ERROR_INVALID_ARGUMENT);
  s->close();
}

TEST(requests_wait_for_pages_and_impossible_ones_are_refused) {
  auto m = open_tiny();
  session_options options;
  options.kv_cache_bytes = bytes_of_pages(*m, 4);
  auto s = session::create(m, options);
  CHECK_EQ(s->stats().pages_total, 4);
  decode::options o;
  o.max_new_tokens = 40;
  std::vector<std::shared_ptr<request>> requests;
  for (int i = 0; i < 5; ++i) requests.push_back(start(*s, {1, 2, 3, 4}, o));  // three pages each: one at a time
  for (auto& r : requests) s->wait(*r);
  for (auto& r : requests) CHECK(new_tokens(*r) == new_tokens(*requests[0]));
  o.max_new_tokens = 80;
  CHECK_ERROR(FT_ERROR_OUT_OF_MEMORY, "key-value pages", start(*s, {1, 2}, o));
  s->close();
}

TEST(a_resent_history_is_not_computed_again) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  auto m = open_tiny();
  auto s = session::create(m, {.max_tokens_per_step = 23});
  decode::options o;
  o.max_new_tokens = 21;
  std::vector<int32_t> history = {7, 7, 7};
  uint64_t computed = 0;
  for (int turn = 0; turn < 6; ++turn) {
    for (int i = 0; i < 9; ++i) history.push_back(static_cast<int32_t>(random() % tiny_llama::vocab));
    const uint64_t reused_before = s->stats().prompt_tokens_reused;
    auto r = start(*s, history, o);
    s->wait(*r);
    CHECK_MSG(new_tokens(*r) == alone(m, history, o), "seed ", seed, " turn ", turn);
    // All full pages of what the turn before computed: its prompt and all of its answer but the last token.
    const uint64_t known = turn == 0 ? 0 : (history.size() - 9 - 1) / 16 * 16;
    CHECK_EQ(s->stats().prompt_tokens_reused - reused_before, known);
    computed += history.size() - known;
    CHECK_EQ(s->stats().prompt_tokens, computed);
    const auto said = new_tokens(*r);
    history.insert(history.end(), said.begin(), said.end());
  }
  CHECK_EQ(s->stats().pages_in_use, 0);
  CHECK(s->stats().pages_kept > 0);
  s->close();

  auto without = session::create(m, {.prefix_cache = false});
  for (int i = 0; i < 2; ++i) {
    auto r = start(*without, history, o);
    without->wait(*r);
  }
  CHECK_EQ(without->stats().prompt_tokens_reused, uint64_t{0});
  CHECK_EQ(without->stats().pages_kept, 0);
  without->close();
}

// Beams, sampled groups and greedy requests over a few beginnings in a pool too small to keep them all: each has the
// tokens and log-probabilities that it has alone in a session that keeps nothing.
TEST(kept_pages_change_no_bit_and_give_way) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  auto m = open_tiny();
  const int64_t most_kept = 1 + static_cast<int64_t>(random() % 37);
  auto s = session::create(m, {.max_batch_size = 9,
                               .max_tokens_per_step = 29,
                               .kv_cache_bytes = bytes_of_pages(*m, 37),
                               .prefix_cache_bytes = bytes_of_pages(*m, most_kept)});
  std::vector<std::vector<int32_t>> beginnings;
  for (int i = 0; i < 4; ++i) {
    beginnings.emplace_back(20 + random() % 60);
    for (int32_t& t : beginnings.back()) t = static_cast<int32_t>(random() % tiny_llama::vocab);
  }
  const auto all_outputs = [](const request& r) {
    std::vector<std::pair<std::vector<int32_t>, std::vector<float>>> all;
    for (size_t i = 0; i < r.num_outputs(); ++i)
      r.read_output(i, [&](const output& o) { all.emplace_back(o.tokens, o.logprobs); });
    return all;
  };
  std::vector<drawn_request> all;
  for (int i = 0; i < 60; ++i) {
    auto prompt = beginnings[random() % beginnings.size()];
    prompt.resize(1 + random() % prompt.size());
    for (size_t extra = random() % 20; extra > 0; --extra)
      prompt.push_back(static_cast<int32_t>(random() % tiny_llama::vocab));
    decode::options o = draw_settings(random);
    o.max_new_tokens = std::min(o.max_new_tokens, 24);
    o.min_new_tokens = 0;
    if (random() % 2) o.num_beams = static_cast<int32_t>(1 + random() % 4);
    if (o.num_beams > 1 || o.do_sample)
      o.num_return_sequences =
          static_cast<int32_t>(1 + random() % static_cast<uint32_t>(o.num_beams > 1 ? o.num_beams : 3));
    o.logprobs = decode::logprobs_kind::raw;
    all.push_back({prompt, o, start(*s, prompt, o)});
    if (random() % 8 == 0) all.back().r->cancel();
    for (uint32_t steps = random() % 12; steps > 0; --steps) s->step();
  }
  for (auto& e : all) s->wait(*e.r);
  const session_stats stats = s->stats();
  CHECK_EQ(stats.pages_in_use, 0);
  CHECK(stats.pages_kept > 0 && stats.pages_kept <= most_kept);
  CHECK(stats.prompt_tokens_reused > 0);
  auto plain = session::create(m, {.prefix_cache = false});
  for (auto& e : all) {
    if (e.r->finish_reason() == FT_FINISH_CANCELLED) continue;
    auto again = start(*plain, e.prompt, e.settings);
    plain->wait(*again);
    CHECK_MSG(all_outputs(*e.r) == all_outputs(*again), "seed ", seed);
  }
  plain->close();
  s->close();
}

// Four pages of a common beginning and two more for each: of ten, three such requests have room at once, where two
// would if each had to find six.
TEST(a_shared_beginning_needs_no_pages_of_its_own) {
  auto m = open_tiny();
  std::mt19937 random(5);
  std::vector<int32_t> beginning(64);
  for (int32_t& t : beginning) t = static_cast<int32_t>(random() % tiny_llama::vocab);
  decode::options o;
  o.max_new_tokens = 30;
  const auto most_at_once = [&](const session_options& options, bool alike) {
    auto s = session::create(m, options);
    std::vector<std::shared_ptr<request>> requests;
    for (int32_t i = 0; i < 6; ++i) {
      std::vector<int32_t> prompt = beginning;
      if (!alike) prompt[0] = i;
      prompt.push_back(i);
      requests.push_back(start(*s, prompt, o));
    }
    int64_t most = 0;
    while (s->step() > 0)
      most = std::max<int64_t>(most, std::ranges::count_if(requests, [](const auto& r) {
                                 return !r->finished() && !new_tokens(*r).empty();
                               }));
    for (auto& r : requests) CHECK_EQ(r->status(), FT_OK);
    CHECK_EQ(s->stats().pages_in_use, 0);
    s->close();
    return most;
  };
  const int64_t ten = bytes_of_pages(*m, 10);
  CHECK_EQ(most_at_once({.kv_cache_bytes = ten}, true), 3);
  CHECK_EQ(most_at_once({.kv_cache_bytes = ten}, false), 1);
  CHECK_EQ(most_at_once({.kv_cache_bytes = ten, .prefix_cache = false}, true), 1);
  // Whether or not the pages may stay afterwards.
  CHECK_EQ(most_at_once({.kv_cache_bytes = ten, .prefix_cache_bytes = 1}, true), 3);
}

TEST(the_prefix_cache_stays_within_its_bound) {
  auto m = open_tiny();
  std::mt19937 random(6);
  const auto pages_kept_after = [&](session_options options, int64_t expected) {
    auto s = session::create(m, options);
    for (int i = 0; i < 12; ++i) {
      auto r = start(*s, std::vector<int32_t>(40, static_cast<int32_t>(random() % tiny_llama::vocab)), {});
      s->wait(*r);
      CHECK(s->stats().pages_kept <= expected);
    }
    CHECK_EQ(s->stats().pages_kept, expected);
    s->close();
  };
  pages_kept_after({.kv_cache_bytes = bytes_of_pages(*m, 20), .prefix_cache_bytes = bytes_of_pages(*m, 5)}, 5);
  pages_kept_after({.kv_cache_bytes = bytes_of_pages(*m, 20), .prefix_cache_bytes = 1}, 0);
  pages_kept_after({.kv_cache_bytes = bytes_of_pages(*m, 9)}, 8);  // all but one that is never full
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "prefix_cache_bytes", session::create(m, {.prefix_cache_bytes = -1}));
}

TEST(a_steady_step_that_keeps_and_evicts_pages_allocates_nothing) {
  auto m = open_tiny();
  auto s = session::create(m, {.kv_cache_bytes = bytes_of_pages(*m, 12)});
  decode::options o;
  o.max_new_tokens = 100;
  for (int round = 0; round < 3; ++round) {
    auto r = start(*s, {static_cast<int32_t>(1 + round), 5, 9, 3}, o);
    for (int i = 0; i < 5; ++i) s->step();
    const uint64_t before = s->stats().allocations;
    for (int i = 0; i < 90; ++i) s->step();
    CHECK_EQ(s->stats().allocations, before);
    s->wait(*r);
  }
  CHECK(s->stats().pages_kept >= 6);
  s->close();
}

TEST(lengths_and_arguments_are_checked) {
  auto m = open_tiny();
  auto s = session::create(m, {});
  decode::options o;
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "empty", start(*s, {}, o));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "token 96", start(*s, {tiny_llama::vocab}, o));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "positions", start(*s, std::vector<int32_t>(tiny_llama::positions, 1), o));
  o.max_new_tokens = 1000;
  auto r = start(*s, std::vector<int32_t>(tiny_llama::positions - 3, 1), o);
  s->wait(*r);
  CHECK_EQ(r->finish_reason(), FT_FINISH_LENGTH);
  CHECK_EQ(new_tokens(*r).size(), 3u);
  s->close();
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "destroyed", start(*s, {1}, {}));
}
