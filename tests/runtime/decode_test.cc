// Logits processors, the sampler and its random numbers.
#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "check.h"
#include "decode/options.h"
#include "decode/philox.h"
#include "decode/processors.h"
#include "decode/sampler.h"

using namespace ft;
using namespace ft::decode;

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();

std::vector<float> processed(std::vector<float> logits, std::vector<int32_t> tokens, int64_t num_new,
                             const options& settings) {
  token_marks marks(static_cast<int64_t>(logits.size()));
  process_logits(logits, tokens, num_new, settings, marks);
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> p;
  double sum = 0;
  for (float l : logits) p.push_back(std::exp(l / temperature)), sum += p.back();
  for (double& x : p) x /= sum;
  return p;
}

// Pearson's statistic of `draws` samples against the probabilities; tokens of probability 0 must never come.
double chi_squared(const std::vector<float>& logits, options settings, const std::vector<double>& expected, int draws) {
  sampler s(static_cast<int64_t>(logits.size()));
  std::vector<int> counts(logits.size(), 0);
  for (int i = 0; i < draws; ++i)
    ++counts[static_cast<size_t>(s.sample(logits, settings, settings.seed, static_cast<uint64_t>(i)).token)];
  double statistic = 0;
  for (size_t t = 0; t < counts.size(); ++t) {
    if (expected[t] == 0) CHECK_EQ(counts[t], 0);
    if (expected[t] > 0) statistic += std::pow(counts[t] - draws * expected[t], 2) / (draws * expected[t]);
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

TEST(log_probability_is_log_softmax) {
  const std::vector<float> logits = {1000, 999, -inf};
  CHECK(std::abs(log_probability(logits, 0) + std::log1p(std::exp(-1.0))) < 1e-6);
  CHECK(log_probability(logits, 2) == -inf);
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
  // The 99.999th percentile of chi-squared with 11 degrees of freedom is 43.2.
  CHECK_MSG(chi_squared(logits, o, expected, 100000) < 43.2, "seed ", seed);

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
  CHECK_MSG(chi_squared(logits, o, kept, 100000) < 43.2, "seed ", seed);
}

TEST(sampling_is_a_function_of_seed_and_draw) {
  std::vector<float> logits(100, 0.0f);
  options o;
  o.do_sample = true;
  o.seed = 7;
  sampler a(100), b(100);
  b.sample(logits, o, o.seed, 99);
  for (uint64_t draw = 0; draw < 50; ++draw)
    CHECK_EQ(a.sample(logits, o, o.seed, draw).token, b.sample(logits, o, o.seed, draw).token);
}

TEST(options_name_what_is_wrong) {
  const auto refused = [](auto change, const char* text) {
    options o;
    change(o);
    CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, text, o.validate(10));
  };
  options{}.validate(10);
  refused([](options& o) { o.max_new_tokens = 0; }, "max_new_tokens is 0");
  refused([](options& o) { o.min_new_tokens = 65; }, "min_new_tokens");
  refused([](options& o) { o.temperature = 0; }, "temperature");
  refused([](options& o) { o.temperature = std::nanf(""); }, "temperature");
  refused([](options& o) { o.top_k = -1; }, "top_k");
  refused([](options& o) { o.top_p = 0; }, "top_p");
  refused([](options& o) { o.top_p = 1.5f; }, "top_p");
  refused([](options& o) { o.min_p = -0.5f; }, "min_p");
  refused([](options& o) { o.repetition_penalty = 0; }, "repetition_penalty");
  refused([](options& o) { o.presence_penalty = inf; }, "presence_penalty");
  refused([](options& o) { o.frequency_penalty = inf; }, "frequency_penalty");
  refused([](options& o) { o.no_repeat_ngram_size = -1; }, "no_repeat_ngram_size");
  refused([](options& o) { o.stop_token_ids = {10}; }, "stop_token_ids holds token 10");
  refused([](options& o) { o.bad_words = {{}}; }, "bad_words");
  refused([](options& o) { o.bad_words = {{1, -2}}; }, "bad_words holds token -2");
}
