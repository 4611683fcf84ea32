// Thousands of drawn requests through the scheduler and a worker that checks every key it reads: each gets what it gets
// alone, whatever runs beside it, however few pages there are, and whether or not steps go ahead; nothing is left over.
// Steady steps allocate nothing.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <random>

#include "scheduler/drawn_workload.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;
using decode::logprobs_kind;

namespace {

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

// Of a driver's steps those in which nobody begins or ends, with no more edits than before: they allocate nothing.
class steady_steps {
 public:
  explicit steady_steps(driver& s) : driver_(s) {
    s.on_launch = [this](const scheduled_step& step) { look_at(step); };
  }
  void step(bool later) {
    const bool was_decoding = decodes_;
    const size_t unfinished = driver_.scheduler.unfinished();
    grows_ = false;
    launched_ = 0;
    const int64_t before = allocations();
    const bool nobody_ended = driver_.step(later) == unfinished;
    const int64_t taken = allocations() - before;
    if (launched_ == 0 || !was_decoding || !decodes_ || !nobody_ended || grows_) return;
    CHECK_MSG(taken == 0, taken, " allocations in a steady step");
    ++count_;
  }
  int64_t count() const { return count_; }

 private:
  void look_at(const scheduled_step& step) {
    ++launched_;
    decodes_ = step.plan().only_decodes() && step.source_requests().empty();
    step.each_row([&](const scheduled_request& r, const sequence& s) { decodes_ &= s.computed > r.prompt_length(); });
    const sampling_metadata& m = step.plan().sampling;
    for (const auto& [now, most] : {std::pair(m.edits.size(), &edits_[step.plan().slot]),
                                    std::pair(m.beam_stops.size(), &stops_[step.plan().slot])}) {
      grows_ |= now > *most;
      *most = std::max(*most, now);
    }
  }

  driver& driver_;
  bool decodes_ = false, grows_ = false;
  int launched_ = 0;
  size_t edits_[2] = {}, stops_[2] = {};  // the most of each slot
  int64_t count_ = 0;
};

struct totals {
  int64_t steps = 0, requests = 0, went_ahead = 0, reordered = 0, steady = 0;
  uint64_t reused = 0, copied = 0;
};

void run_workload(uint32_t seed, totals& sum) {
  std::mt19937 random(seed);
  const drawer d{random};
  const workload w = draw_workload(d);
  driver s(w.options);
  steady_steps steps(s);
  std::vector<submitted> all;
  int64_t most_steps = 0;
  const auto step = [&] {
    steps.step(d.one_in(2));
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
    for (uint32_t more = d.below(d.one_in(5) ? 30 : 3); more > 0; --more) step();
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
  sum.steady += steps.count();
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
  std::printf("%lld steps, %lld of them ahead and %lld steady, of %lld requests\n", static_cast<long long>(sum.steps),
              static_cast<long long>(sum.went_ahead), static_cast<long long>(sum.steady),
              static_cast<long long>(sum.requests));
  CHECK(sum.went_ahead > sum.steps / 50 && sum.steady > sum.steps / 50 && sum.reordered > 0 && sum.reused > 0 &&
        sum.copied > 0);
}
