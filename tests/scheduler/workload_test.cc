// Thousands of drawn requests through the scheduler and a worker that checks every key it reads: each gets what it gets
// alone, whatever runs beside it, however few pages there are, and whether or not steps go ahead; nothing is left over.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "scheduler/driver.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;
using decode::logprobs_kind;

namespace {

struct drawer {
  std::mt19937& random;

  uint32_t below(uint32_t n) const { return static_cast<uint32_t>(random() % n); }
  bool one_in(uint32_t n) const { return below(n) == 0; }
  int32_t between(int32_t least, int32_t most) const {
    return least + static_cast<int32_t>(below(static_cast<uint32_t>(most - least + 1)));
  }
  float unit() const { return static_cast<float>(below(1000)) / 1000; }
  int32_t token() const { return between(0, fake_model::vocab - 1); }
  std::vector<int32_t> tokens(int32_t most) const {
    std::vector<int32_t> list(static_cast<size_t>(between(1, most)));
    for (int32_t& t : list) t = token();
    return list;
  }
};

void draw_penalties(const drawer& d, decode::options& o) {
  if (d.one_in(3)) o.repetition_penalty = 0.7f + d.unit();
  if (d.one_in(3)) o.presence_penalty = d.unit() - 0.3f, o.frequency_penalty = d.unit() / 2;
  if (d.one_in(4)) o.min_new_tokens = d.between(0, o.max_new_tokens);
  if (d.one_in(4)) o.bad_words = {{d.token()}, {d.token()}};
  if (d.one_in(8)) o.bad_words.push_back({d.token(), d.token()});
  if (d.one_in(8)) o.no_repeat_ngram_size = d.between(2, 3);
}

void draw_cuts(const drawer& d, decode::options& o) {
  if (d.one_in(2)) o.temperature = 0.3f + d.unit();
  if (d.one_in(3)) o.top_k = d.between(1, 50);
  if (d.one_in(3)) o.top_p = 0.3f + 0.69f * d.unit();
  if (d.one_in(4)) o.min_p = d.unit() / 4;
  if (d.one_in(8)) o.typical_p = 0.3f + 0.6f * d.unit();
  if (d.one_in(8)) o.top_p_decay = 0.8f, o.top_p_reset_id = d.token();
}

decode::options draw_settings(const drawer& d, int32_t most_new, int32_t widest) {
  decode::options o;
  o.max_new_tokens = d.between(1, most_new);
  o.seed = d.random();
  o.logprobs = static_cast<logprobs_kind>(d.below(3));
  for (uint32_t stops = d.below(4); stops > 0; --stops) o.stop_token_ids.push_back(d.token());
  if (d.one_in(10)) o.forced_bos_token_id = d.token();
  if (d.one_in(10)) o.forced_eos_token_ids = {d.token()};
  if (d.one_in(3)) draw_penalties(d, o);
  switch (d.below(5)) {
    case 0:
      break;
    case 1:
    case 2:
      o.do_sample = true;
      if (d.one_in(2)) draw_cuts(d, o);
      if (d.one_in(3)) o.num_return_sequences = d.between(1, std::min(4, widest));
      break;
    default:
      if (widest < 2) break;
      o.num_beams = d.between(2, std::min(6, widest));
      o.num_return_sequences = d.between(1, o.num_beams);
      o.early_stopping = static_cast<decode::early_stopping_kind>(d.below(3));
      o.length_penalty = static_cast<float>(d.below(3));
      if (o.num_beams % 2 == 0 && d.one_in(3)) {
        o.num_beam_groups = 2;
        o.diversity_penalty = d.one_in(2) ? 0.5f : 0;
      } else if (d.one_in(4)) {
        o.do_sample = true;
        draw_cuts(d, o);
      }
  }
  return o;
}

soft_prompt draw_soft_prompt(const drawer& d, size_t prompt_length, bool may_have_prefix) {
  soft_prompt soft;
  const auto draw = [&](std::vector<float>& values, size_t count) {
    values.resize(count);
    for (float& x : values) x = d.unit();
  };
  if (d.one_in(2))
    for (size_t p = 0; p < prompt_length; ++p)
      if (d.one_in(3)) soft.positions.push_back(static_cast<int32_t>(p));
  draw(soft.embeddings, soft.positions.size() * fake_model::embedding_size);
  if (may_have_prefix && d.one_in(2)) soft.prefix_length = d.between(1, 20);
  draw(soft.prefix, 2 * static_cast<size_t>(soft.prefix_length));
  return soft;
}

// One session's worth: what its requests have in common.
struct workload {
  driver_options options;
  std::vector<std::vector<int32_t>> beginnings;
  int32_t most_new = 30;
  bool plain = false;  // only what steps can go ahead of

  drawn_request draw(const drawer& d) const {
    drawn_request r;
    if (d.one_in(2)) {
      r.prompt = beginnings[d.below(static_cast<uint32_t>(beginnings.size()))];
      r.prompt.resize(1 + d.below(static_cast<uint32_t>(r.prompt.size())));
    }
    for (int32_t t : d.tokens(d.one_in(4) ? 40 : 8)) r.prompt.push_back(t);
    r.settings = draw_settings(d, most_new, static_cast<int32_t>(options.max_batch_size));
    if (plain) {
      r.settings.top_p_decay = 1;
      r.settings.no_repeat_ngram_size = 0;
      r.settings.typical_p = 1;
      r.settings.num_beam_groups = 1;
      if (r.settings.logprobs == logprobs_kind::raw) r.settings.logprobs = logprobs_kind::processed;
      if (r.settings.uses_beams()) {
        r.settings.do_sample = false;
        r.settings.repetition_penalty = 1;
        r.settings.presence_penalty = r.settings.frequency_penalty = 0;
        r.settings.min_new_tokens = 0;
        r.settings.bad_words.clear();
      }
    }
    if (d.one_in(8)) r.settings.prompt_logprobs = true;
    if (options.limits.is_encoder_decoder) {
      for (int32_t& t : r.prompt) t += d.between(0, fake_model::encoder_vocab - fake_model::vocab);
      if (d.one_in(3)) r.settings.decoder_input_ids = d.tokens(10);
    }
    if (d.one_in(8)) r.soft = draw_soft_prompt(d, r.prompt.size(), !options.limits.is_encoder_decoder);
    if (d.one_in(plain ? 40 : 8)) r.stops_one_in = d.between(5, 40);
    if (d.one_in(plain ? 40 : 10)) r.steers_one_in = d.between(1, 5);
    if (d.one_in(plain ? 40 : 12)) r.constrains = true;
    if (d.one_in(12)) r.stop_after = d.between(1, 20);
    if (d.one_in(20)) r.cancel_after = d.between(1, 20);
    return r;
  }
};

workload draw_workload(const drawer& d) {
  workload w;
  driver_options& o = w.options;
  o.limits = d.one_in(4) ? encoder_decoder_limits() : decoder_limits();
  o.goes_ahead = d.one_in(2);
  w.plain = d.one_in(2);
  o.page_tokens = d.one_in(3) ? 16 : d.between(1, 5);
  o.max_batch_size = d.one_in(4) ? d.between(1, 3) : d.between(4, 16);
  o.max_tokens_per_step = d.one_in(3) ? d.between(1, 6) : d.between(7, 200);
  // A request takes at most what the widest does; some of these sessions have little more.
  const int64_t one = pages_for(o.limits.max_positions, o.page_tokens);
  o.num_pages = one * (d.one_in(2) ? 2 : 8) + d.between(0, 20);
  o.most_idle_pages = d.one_in(3) ? d.between(0, 10) : o.num_pages;
  o.prefix_cache = !d.one_in(4);
  for (int i = 0; i < 3; ++i) w.beginnings.push_back(d.tokens(50));
  w.most_new = d.between(5, 60);
  return w;
}

bool same_bits(float a, float b) { return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b); }
bool near(float a, float b) { return (a != a && b != b) || std::fabs(a - b) <= 1e-5f; }

struct submitted {
  drawn_request given;
  std::shared_ptr<scheduled_request> handle;
  bool cancelled = false;
};

std::string describe(const drawn_request& r) {
  const decode::options& o = r.settings;
  return cat("prompt of ", r.prompt.size(), ", ", o.max_new_tokens, " new, beams ", o.num_beams, "/", o.num_beam_groups,
             ", sampled ", o.do_sample, ", returned ", o.num_return_sequences, ", logprobs ",
             static_cast<int>(o.logprobs), ", edits ", o.edits_logits(), ", prefix ", r.soft.prefix_length,
             ", embeddings ", r.soft.positions.size(), ", stop ", r.stops_one_in, "/", r.stop_after, "/",
             r.cancel_after, ", steers ", r.steers_one_in, r.constrains, ", decoder ids ", o.decoder_input_ids.size(),
             ", forced ", o.forced_bos_token_id, "/", o.forced_eos_token_ids.size());
}

void check_output(const submitted& one, size_t index, const output& got, const output& want, bool whole) {
  const std::string what = cat("sequence ", index, " of: ", describe(one.given));
  CHECK_MSG(
      got.tokens.size() <= want.tokens.size() && std::equal(got.tokens.begin(), got.tokens.end(), want.tokens.begin()),
      what);
  for (size_t t = 0; t < std::min(got.logprobs.size(), want.logprobs.size()); ++t)
    CHECK_MSG(near(got.logprobs[t], want.logprobs[t]), what, ": ", got.logprobs[t], " and ", want.logprobs[t]);
  if (!whole) return;
  CHECK_MSG(got.tokens.size() == want.tokens.size(), what, ": ", got.tokens.size(), " of ", want.tokens.size());
  CHECK_MSG(got.logprobs.size() == want.logprobs.size(), what);
  CHECK_MSG(near(got.score, want.score), what, ": ", got.score, " and ", want.score);
}

void check_request(const submitted& one, const model_limits& limits) {
  expected_request want;
  ft_finish_reason reason = FT_FINISH_ERROR;
  try {
    want = compute_directly(one.given, limits);
    reason = want.reason;
  } catch (const error&) {  // no token can come
  }
  const scheduled_request& r = *one.handle;
  CHECK(r.finished());
  if (one.cancelled && r.finish_reason() == FT_FINISH_CANCELLED) {
    CHECK_EQ(r.status(), FT_ERROR_CANCELLED);
    if (reason == FT_FINISH_ERROR) return;
  } else {
    CHECK_MSG(r.finish_reason() == reason, r.finish_reason(), " for ", reason, ": ", r.message(), ": ",
              describe(one.given));
    if (reason == FT_FINISH_ERROR) return;
  }
  const bool whole = r.finish_reason() != FT_FINISH_CANCELLED;
  const bool told_to_stop = one.given.stop_after > 0;  // then beams show what was settled alone
  CHECK_MSG(!whole || told_to_stop || r.num_outputs() == want.outputs.size(), describe(one.given));
  for (size_t i = 0; i < r.num_outputs() && i < want.outputs.size(); ++i)
    r.read_output(i, [&](const output& got) {
      // What a search settles before the end is the beginning of its best, and so is what it gives when it is stopped.
      check_output(one, i, got, want.outputs[i], whole);
      if (whole && !(told_to_stop && one.given.settings.uses_beams()))
        CHECK_MSG(got.finish_reason == want.outputs[i].finish_reason, describe(one.given));
    });
  if (!one.given.settings.prompt_logprobs || !whole) return;
  r.read_prompt_logprobs([&](std::span<const float> got) {
    CHECK_EQ(got.size(), want.prompt_logprobs.size());
    for (size_t i = 0; i < got.size(); ++i)
      CHECK_MSG(same_bits(got[i], want.prompt_logprobs[i]) ||
                    (got[i] != got[i] && want.prompt_logprobs[i] != want.prompt_logprobs[i]),
                got[i], " for ", want.prompt_logprobs[i], ": prompt token ", i, " of: ", describe(one.given));
  });
}

// Whatever was reserved is free again: the largest request that there can be is admitted at once, and no two of them.
void check_nothing_is_left(driver& s) {
  const scheduler_stats stats = s.scheduler.stats();
  CHECK_EQ(stats.pages_in_use, 0);
  CHECK(stats.pages_kept <= s.options.most_idle_pages);
  drawn_request largest;
  largest.prompt = {1};
  largest.settings.do_sample = true;
  largest.settings.num_return_sequences = static_cast<int32_t>(s.options.max_batch_size);
  const int64_t pages_each = s.options.num_pages / s.options.max_batch_size;
  const int64_t source = s.options.limits.is_encoder_decoder ? s.options.page_tokens : 0;  // has a page
  largest.settings.max_new_tokens =
      static_cast<int32_t>(std::clamp<int64_t>(pages_each * s.options.page_tokens - source, 1, 64));
  const auto a = s.submit(largest), b = s.submit(largest);
  const auto length_of = [](const scheduled_request& r) {
    size_t length = 0;
    r.read_output(0, [&](const output& o) { length = o.tokens.size(); });
    return length;
  };
  for (int i = 0; i < 3 && length_of(*a) == 0; ++i) s.step();
  CHECK(length_of(*a) > 0 && length_of(*b) == 0);
  a->cancel();
  b->cancel();
  s.finish_all(4);
  CHECK_EQ(s.scheduler.stats().pages_in_use, 0);
}

struct totals {
  int64_t steps = 0, requests = 0, went_ahead = 0, reordered = 0;
  uint64_t reused = 0, copied = 0;
};

void run_workload(uint32_t seed, totals& sum) {
  std::mt19937 random(seed);
  const drawer d{random};
  const workload w = draw_workload(d);
  driver s(w.options);
  std::vector<submitted> all;
  int64_t most_steps = 0;
  const auto step = [&] {
    s.step(d.one_in(2));
    CHECK(s.scheduler.stats().pages_in_use <= w.options.num_pages);
    if (d.one_in(60) && !all.empty()) {
      submitted& one = all[d.below(static_cast<uint32_t>(all.size()))];
      one.cancelled = true;
      one.handle->cancel();
    }
  };
  for (int requests = d.between(10, 60); requests > 0; --requests) {
    const drawn_request given = w.draw(d);
    try {
      all.push_back({given, s.submit(given)});
    } catch (const error& e) {  // longer than there are positions, or wider than there are pages
      CHECK_MSG(e.code() == FT_ERROR_OUT_OF_MEMORY || e.code() == FT_ERROR_INVALID_ARGUMENT, e.what());
      continue;
    }
    // If each ran alone, a token of its prompt and of one sequence at a time.
    most_steps += static_cast<int64_t>(given.prompt.size()) + 12 + given.settings.max_new_tokens;
    for (uint32_t steps = d.below(d.one_in(5) ? 30 : 3); steps > 0; --steps) step();
  }
  for (int64_t i = 0; s.scheduler.unfinished() > 0; ++i) {
    CHECK_MSG(i < most_steps, s.scheduler.unfinished(), " requests do not end");
    step();
  }
  for (const submitted& one : all) check_request(one, w.options.limits);
  check_nothing_is_left(s);
  sum.steps += s.worker.steps();
  sum.requests += static_cast<int64_t>(all.size());
  sum.went_ahead += s.went_ahead;
  sum.reordered += s.worker.replayed_beams();
  sum.reused += s.scheduler.stats().prompt_tokens_reused;
  sum.copied += s.scheduler.stats().pages_copied;
}

// FT_SCHEDULER_STEPS: how many; 100,000 take seconds.
int64_t wanted_steps() {
  const char* given = std::getenv("FT_SCHEDULER_STEPS");
  return given ? std::atoll(given) : 100'000;
}

}  // namespace

TEST(drawn_requests_get_what_they_get_alone) {
  const char* given = std::getenv("FT_SCHEDULER_SEED");  // of one workload, to see it again
  totals sum;
  if (given) return run_workload(static_cast<uint32_t>(std::atoll(given)), sum);
  std::random_device seeds;
  while (sum.steps < wanted_steps()) {
    const uint32_t seed = seeds();
    try {
      run_workload(seed, sum);
    } catch (const std::exception& e) {
      throw failure(cat("FT_SCHEDULER_SEED=", seed, ": ", e.what()));
    }
  }
  std::printf("%lld steps, %lld of them ahead, of %lld requests\n", static_cast<long long>(sum.steps),
              static_cast<long long>(sum.went_ahead), static_cast<long long>(sum.requests));
  CHECK(sum.went_ahead > sum.steps / 50 && sum.reordered > 0 && sum.reused > 0 && sum.copied > 0);
}
