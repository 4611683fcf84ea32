// Logits processors, the sampler and its random numbers.
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>

#include "check.h"
#include "decode/beam_search.h"
#include "decode/options.h"
#include "decode/philox.h"
#include "decode/processors.h"
#include "decode/sampler.h"
#include "ops/sample.h"
#include "ops/sampling_threshold.h"
#include "ops/top_k.h"

using namespace ft;
using namespace ft::decode;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

std::vector<float> processed(std::vector<float> logits, std::vector<int32_t> tokens, int64_t num_new,
                             const options& settings) {
  logit_editor editor(static_cast<int64_t>(logits.size()));
  editor.edit(logits, tokens, static_cast<size_t>(num_new), settings);
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (float l : logits) p.push_back(std::exp(l / temperature)), sum += p.back();
  for (double& x : p) x /= sum;
  return p;
}

// Pearson's statistic of `draws` samples against the probabilities; tokens of probability 0 must never come. Tokens
// that expect fewer than 50 draws share a cell with the next: the tail of a small count is far heavier than a normal's.
double chi_squared(const std::vector<float>& logits, options settings, const std::vector<double>& expected, int draws) {
  sampler s(static_cast<int64_t>(logits.size()));
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < draws; ++i)
    ++counts[static_cast<size_t>(s.sample(logits, settings, {}, settings.seed + static_cast<uint64_t>(i)).token)];
  std::multimap<double, int> cells;  // what is expected -> what came, the rarest first
  for (size_t t = 0; t < counts.size(); ++t) {
    if (expected[t] == 0) CHECK_EQ(counts[t], 0);
    if (expected[t] > 0) cells.emplace(draws * expected[t], counts[t]);
  }
  double statistic = 0, cell_expected = 0, cell_count = 0;
  for (const auto& [mean, count] : cells) {
    cell_expected += mean;
    cell_count += count;
    if (cell_expected < 50) continue;
    statistic += std::pow(cell_count - cell_expected, 2) / cell_expected;
    cell_expected = cell_count = 0;
  }
  return statistic;
}

}  // namespace

// The known answers that the authors of Philox publish with Random123 (kat_vectors).
TEST(philox_known_answers) {
  const auto zero = philox(0, 0);
  CHECK(zero == (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK(uniform(1, 2) != uniform(1, 3));
  CHECK(uniform(1, 2) != uniform(2, 2));
}

TEST(repetition_penalty_divides_positive_and_multiplies_negative_once) {
  options o;
  o.repetition_penalty = 2;
  const auto l = processed({4, -4, 3, 1}, {0, 1, 0, 1}, 1, o);
  CHECK(l == (std::vector<float>{2, -8, 3, 1}));
}

TEST(presence_and_frequency_count_new_tokens_only) {
  options o;
  o.presence_penalty = 0.5f;
  o.frequency_penalty = 0.25f;
  const auto l = processed({0, 0, 0, 0}, {3, 1, 1, 2}, 3, o);
  CHECK(l == (std::vector<float>{0, -1.0f, -0.75f, 0}));
}

TEST(repeated_ngrams_are_banned) {
  options o;
  o.no_repeat_ngram_size = 2;
  auto l = processed({0, 0, 0, 0}, {1, 2, 3, 1}, 0, o);
  CHECK(l == (std::vector<float>{0, 0, -inf, 0}));
  o.no_repeat_ngram_size = 1;
  l = processed({0, 0, 0, 0}, {1, 2}, 0, o);
  CHECK(l == (std::vector<float>{0, -inf, -inf, 0}));
  o.no_repeat_ngram_size = 5;
  l = processed({0, 0}, {1, 0}, 0, o);
  CHECK(l == (std::vector<float>{0, 0}));
}

TEST(bad_words_ban_their_last_token_after_their_first_ones) {
  options o;
  o.bad_words = {{0}, {1, 2}, {3, 1, 3}};
  const auto l = processed({0, 0, 0, 0}, {3, 1}, 0, o);
  CHECK(l == (std::vector<float>{-inf, 0, -inf, -inf}));
  CHECK(processed({0, 0, 0, 0}, {2}, 0, o) == (std::vector<float>{-inf, 0, 0, 0}));
}

TEST(stop_tokens_wait_for_min_new_tokens) {
  options o;
  o.min_new_tokens = 2;
  o.stop_token_ids = {1};
  CHECK(processed({0, 0}, {0, 0}, 1, o)[1] == -inf);
  CHECK(processed({0, 0}, {0, 0, 0}, 2, o)[1] == 0);
}

TEST(argmax_takes_the_first_of_equals_and_refuses_nan) {
  const float nan = std::nanf("");
  CHECK_EQ(argmax(std::vector<float>{1, 3, 3, 2}), 1);
  CHECK_EQ(argmax(std::vector<float>{nan, -1, nan}), 1);
  CHECK_EQ(argmax(std::vector<float>{-inf, -inf}), 0);
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "NaN", argmax(std::vector<float>{nan, nan}));
}

// The cuts by their definitions, one after another: the oracle of the sampler.
struct exact_cuts {
  std::vector<double> p;

  void normalise() {
    double sum = 0;
    for (double x : p) sum += x;
    for (double& x : p) x /= sum;
  }
  // Keeps tokens in the order of `rank`, lowest first, until `enough` of those kept so far.
  void keep(const std::vector<double>& rank, const std::function<bool(size_t count, double mass)>& enough) {
    std::vector<size_t> order;
    for (size_t t = 0; t < p.size(); ++t)
      if (p[t] > 0) order.push_back(t);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank[a] < rank[b]; });
    std::vector<double> kept(p.size(), 0);
    double mass = 0;
    for (size_t i = 0; i < order.size() && !enough(i, mass); ++i) mass += kept[order[i]] = p[order[i]];
    p = kept;
    normalise();
  }
  std::vector<double> improbability() const {
    std::vector<double> rank;
    for (double x : p) rank.push_back(-x);
    return rank;
  }
  void apply(const options& o, double top_p) {
    if (o.top_k > 0) keep(improbability(), [&](size_t n, double) { return n >= static_cast<size_t>(o.top_k); });
    if (top_p < 1) keep(improbability(), [&](size_t, double mass) { return mass >= top_p; });
    const double highest = *std::max_element(p.begin(), p.end());
    if (o.min_p > 0)
      for (double& x : p) x = x < double{o.min_p} * highest ? 0 : x;
    normalise();
    if (o.typical_p == 1) return;
    double entropy = 0;
    for (double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
    std::vector<double> surprise;
    for (double x : p) surprise.push_back(std::abs(-std::log(x) - entropy));
    keep(surprise, [&](size_t, double mass) { return mass >= double{o.typical_p}; });
  }
};

TEST(every_cut_and_their_combinations_follow_the_exact_distribution) {
  const uint64_t seed = std::random_device{}();
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::normal_distribution<float> normal(0, 1.5f);
  for (int cuts = 1; cuts < 32; ++cuts) {
    std::vector<float> logits(12);
    for (float& l : logits) l = normal(random);
    logits[random() % 12] = -inf;
    options o;
    o.do_sample = true;
    o.seed = static_cast<uint64_t>(random()) << 32;
    const auto unit = [&] { return 0.3f + 0.6f * static_cast<float>(random() % 1000) / 1000; };
    if (cuts & 1) o.temperature = 0.5f + unit();
    if (cuts & 2) o.top_k = static_cast<int32_t>(2 + random() % 9);
    if (cuts & 4) o.top_p = unit();
    if (cuts & 8) o.min_p = unit() / 6;
    if (cuts & 16) o.typical_p = unit();
    exact_cuts expected{softmax(logits, double{o.temperature})};
    expected.apply(o, double{o.top_p});
    // The 99.99999th percentile of chi-squared with 11 degrees of freedom, the most there can be, is 54.7.
    CHECK_MSG(chi_squared(logits, o, expected.p, 20000) < 54.7, "seed ", seed, " cuts ", cuts);
  }
}

// FasterTransformer's: top_p falls by the factor at every token, no lower than the minimum, and a reset token restores
// it.
TEST(top_p_decays_and_is_reset) {
  options o;
  o.top_p = 0.8f;
  const std::vector<int32_t> said = {3, 5, 1, 1, 9};
  CHECK(o.top_p_after(said) == double{o.top_p});
  o.top_p_decay = 0.5f;
  o.top_p_min = 0.15f;
  o.top_p_reset_id = 5;
  double runtime = double{o.top_p};
  for (size_t n = 0; n <= said.size(); ++n) {
    CHECK_MSG(std::abs(o.top_p_after(std::span(said).first(n)) - runtime) < 1e-12, "after ", n, " tokens");
    if (n == said.size()) break;
    runtime = said[n] == 5 ? double{o.top_p} : std::max(runtime * 0.5, double{o.top_p_min});
  }
  CHECK(runtime == double{o.top_p_min});
  const std::vector<float> logits = {2, 1.5f, 1, 0.5f};
  sampler s(4);
  std::vector<float> warped = logits;
  s.warp(warped, o, {}, 1);
  CHECK(warped[2] > -inf && warped[3] == -inf);
  warped = logits;
  s.warp(warped, o, said, 1);
  CHECK(warped[0] > -inf && warped[1] == -inf);
}

// Beam sampling draws continuations without replacement: of two beams of one token, the set {a, b} comes with
// P(a) P(b) (1 / (1 - P(a)) + 1 / (1 - P(b))).
TEST(sampled_beams_are_drawn_without_replacement) {
  const uint64_t seed = std::random_device{}();
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::normal_distribution<float> normal(0, 1);
  constexpr size_t vocab = 6, draws = 20000;
  std::vector<float> logits(vocab), log_probs;
  for (float& l : logits) l = normal(random);
  const auto p = softmax(logits, 1);
  for (double x : p) log_probs.push_back(static_cast<float>(std::log(x)));
  options o;
  o.do_sample = true;
  o.num_beams = o.num_return_sequences = 2;
  o.max_new_tokens = 1;
  std::map<std::pair<int32_t, int32_t>, int> counts;
  for (size_t i = 0; i < draws; ++i) {
    o.seed = seed + i;
    beam_search search(o, 1);
    beam_group& group = search.groups()[0];
    group.offer(0, log_probs, log_probs, 1);
    group.advance(1, [](int32_t, int32_t) { return false; }, [](int32_t) { return beam_history{}; });
    const auto best = search.best();
    CHECK_EQ(best.size(), size_t{2});
    const int32_t a = best[0]->tokens[0], b = best[1]->tokens[0];
    CHECK(p[static_cast<size_t>(a)] >= p[static_cast<size_t>(b)]);
    ++counts[std::minmax(a, b)];
  }
  double statistic = 0;
  for (size_t a = 0; a < vocab; ++a)
    for (size_t b = a + 1; b < vocab; ++b) {
      const double expected = draws * p[a] * p[b] * (1 / (1 - p[a]) + 1 / (1 - p[b]));
      const auto pair = std::pair(static_cast<int32_t>(a), static_cast<int32_t>(b));
      statistic += std::pow(counts[pair] - expected, 2) / expected;
    }
  // 15 pairs: the 99.99999th percentile of chi-squared with 14 degrees of freedom is 61.1.
  CHECK_MSG(statistic < 61.1, "seed ", seed, ", chi-squared ", statistic);
}

TEST(sampling_follows_the_exact_distribution) {
  const uint64_t seed = std::random_device{}();
  std::mt19937 random(static_cast<uint32_t>(seed));
  std::normal_distribution<float> normal(0, 1.5f);
  std::vector<float> logits(12);
  for (float& l : logits) l = normal(random);
  logits[5] = -inf;
  options o;
  o.do_sample = true;
  o.seed = seed;
  o.temperature = 0.7f;
  auto expected = softmax(logits, 0.7);
  CHECK_MSG(chi_squared(logits, o, expected, 100000) < 54.7, "seed ", seed);

  // Cuts: top-k 8, then top-p 0.9 of what is left, then min-p 0.05.
  o.top_k = 8;
  o.top_p = 0.9f;
  o.min_p = 0.05f;
  std::multimap<double, size_t, std::greater<>> order;
  for (size_t t = 0; t < expected.size(); ++t) order.emplace(expected[t], t);
  std::vector<double> kept(expected.size(), 0);
  double top_k_mass = 0, sum = 0, kept_mass = 0;
  int rank = 0;
  for (auto& [p, t] : order) top_k_mass += rank++ < 8 ? p : 0;
  rank = 0;
  for (auto& [p, t] : order) {
    if (rank++ >= 8 || sum >= 0.9f) break;
    sum += p / top_k_mass;
    if (p >= 0.05f * order.begin()->first) kept_mass += kept[t] = p;
  }
  for (double& p : kept) p /= kept_mass;
  CHECK_MSG(chi_squared(logits, o, kept, 100000) < 54.7, "seed ", seed);
}

// Of rows wider than any number of candidates, flat ones and steep ones, with ties.
TEST(operations_draw_what_the_sampler_draws) {
  const uint64_t seed = std::random_device{}();
  std::mt19937 random(static_cast<uint32_t>(seed));
  const auto coin = [&] { return random() % 2 == 0; };
  constexpr int64_t vocab = 900, k = 128;
  sampler s(vocab);
  int inside = 0, outside = 0;
  for (int trial = 0; trial < 600; ++trial) {
    std::normal_distribution<float> normal(0, 0.5f + static_cast<float>(trial % 6));
    std::vector<float> row(vocab), value(k);
    for (float& x : row) x = coin() ? normal(random) : std::round(normal(random));
    if (random() % 5 == 0) row[random() % vocab] = std::nanf("");
    options o;
    o.do_sample = true;
    o.seed = random();
    if (coin()) o.temperature = 0.6f;
    if (random() % 3 == 0) o.top_k = static_cast<int32_t>(1 + random() % 300);
    if (coin()) o.top_p = 0.8f;
    if (coin()) o.min_p = 0.02f;
    std::vector<int32_t> index(k);
    float log_sum = 0, least = 0;
    int32_t last = 0;
    double draw = uniform(o.seed, 0);
    sampling_limits by{static_cast<double>(o.top_k), double{o.top_p}, double{o.min_p}};
    sampler::choice got{};
    float logit = 0;
    arena scratch(host_memory());
    exec ex{cpu_backend(), cpu_backend().ops(), scratch};
    const auto one = [](auto& x, dtype type) { return tensor(&x, type, {1}); };
    const tensor x(row.data(), dtype::f32, {1, vocab}), temperature = one(o.temperature, dtype::f32);
    const tensor values(value.data(), dtype::f32, {1, k}), indices(index.data(), dtype::i32, {1, k});
    ops::top_k(
        ex,
        {.value = values, .index = indices, .log_sum = one(log_sum, dtype::f32), .x = x, .temperature = temperature});
    ops::sampling_threshold(ex, {.least = one(least, dtype::f32),
                                 .last = one(last, dtype::i32),
                                 .x = x,
                                 .value = values,
                                 .index = indices,
                                 .log_sum = one(log_sum, dtype::f32),
                                 .temperature = temperature,
                                 .by = tensor(&by, dtype::f64, {1, 3})});
    ops::sample(ex, {.token = one(got.token, dtype::i32),
                     .log_prob = one(got.logprob, dtype::f32),
                     .logit = one(logit, dtype::f32),
                     .x = x,
                     .uniform = one(draw, dtype::f64),
                     .temperature = temperature,
                     .least = one(least, dtype::f32),
                     .last = one(last, dtype::i32)});
    const auto want = s.sample(row, o, {}, o.seed);
    CHECK_MSG(got.token == want.token && std::fabs(got.logprob - want.logprob) < 4e-6f, "seed ", seed);
    CHECK_EQ(logit, row[static_cast<size_t>(want.token)]);
    ++(least > value.back() / o.temperature ? inside : outside);
  }
  CHECK_MSG(inside > 50 && outside > 50, inside, " of 600");
}

TEST(every_token_is_edited_once) {
  options o;
  o.repetition_penalty = 2;
  o.presence_penalty = 0.5f;
  o.no_repeat_ngram_size = 1;
  o.min_new_tokens = 9;
  o.stop_token_ids = {5, 1};
  o.bad_words = {{5}, {2}};
  logit_editor editor(6);
  for (int again = 0; again < 2; ++again) {
    const std::vector<int32_t> tokens = {3, -1, 1, 1};
    std::vector<int> edits(6, 0);
    for (const logit_edit& e : editor.list(7, tokens, 2, o)) {
      CHECK(e.row == 7 && e.change == logit_edit::ban);
      ++edits[static_cast<size_t>(e.token)];
    }
    CHECK(edits == (std::vector<int>{0, 1, 1, 1, 0, 1}));
  }
}

TEST(sampling_is_a_function_of_seed_and_draw) {
  std::vector<float> logits(100, 0.0f);
  options o;
  o.do_sample = true;
  o.seed = 7;
  sampler a(100), b(100);
  const std::vector<int32_t> said(99, 1);
  b.sample(logits, o, said, o.seed);
  for (size_t draw = 0; draw < 50; ++draw) {
    const auto before = std::span(said).first(draw);
    CHECK_EQ(a.sample(logits, o, before, o.seed).token, b.sample(logits, o, before, o.seed).token);
  }
}

TEST(options_name_what_is_wrong) {
  const auto refused = [](auto change, const char* text) {
    options o;
    change(o);
    CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, text, o.validate(10));
  };
  options{}.validate(10);
  options{.temperature = 0}.validate(10);  // greedy, and not used
  refused([](options& o) { o.max_new_tokens = 0; }, "max_new_tokens is 0");
  refused([](options& o) { o.min_new_tokens = 65; }, "min_new_tokens");
  refused([](options& o) { o.do_sample = true, o.temperature = 0; }, "temperature is 0");
  refused([](options& o) { o.temperature = -1; }, "temperature is -1");
  refused([](options& o) { o.temperature = std::nanf(""); }, "temperature");
  refused([](options& o) { o.top_k = -1; }, "top_k");
  refused([](options& o) { o.top_p = 0; }, "top_p");
  refused([](options& o) { o.top_p = 1.5f; }, "top_p");
  refused([](options& o) { o.min_p = -0.5f; }, "min_p");
  refused([](options& o) { o.typical_p = 0; }, "typical_p");
  refused([](options& o) { o.typical_p = 1.5f; }, "typical_p");
  refused([](options& o) { o.top_p_decay = 0; }, "top_p_decay");
  refused([](options& o) { o.top_p_decay = std::nanf(""); }, "top_p_decay");
  refused([](options& o) { o.top_p = 0.5f, o.top_p_min = 0.6f; }, "top_p_min");
  refused([](options& o) { o.top_p_reset_id = 10; }, "top_p_reset_id");
  refused([](options& o) { o.repetition_penalty = 0; }, "repetition_penalty");
  refused([](options& o) { o.presence_penalty = inf; }, "presence_penalty");
  refused([](options& o) { o.frequency_penalty = inf; }, "frequency_penalty");
  refused([](options& o) { o.no_repeat_ngram_size = -1; }, "no_repeat_ngram_size");
  refused([](options& o) { o.stop_token_ids = {10}; }, "stop_token_ids holds token 10");
  refused([](options& o) { o.bad_words = {{}}; }, "bad_words");
  refused([](options& o) { o.bad_words = {{1, -2}}; }, "bad_words holds token -2");
  refused([](options& o) { o.logprobs = static_cast<logprobs_kind>(3); }, "logprobs is 3");
  refused([](options& o) { o.early_stopping = static_cast<early_stopping_kind>(-1); }, "early_stopping is -1");
  refused([](options& o) { o.num_beams = 4, o.num_beam_groups = 2; }, "diversity_penalty of 0");
  refused([](options& o) { o.num_beams = 4, o.diversity_penalty = 1; }, "acts between groups");
  refused([](options& o) { o.forced_eos_token_ids = {3, 10}; }, "forced_eos_token_id holds token 10");
}
