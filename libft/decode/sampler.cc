#include "decode/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/first_largest.h"
#include "core/status.h"
#include "decode/philox.h"

namespace ft::decode {
namespace {

// Higher logit first; of equals, the lower id, so that cuts do not depend on the sorting algorithm.
constexpr auto more_likely = [](const auto& a, const auto& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
};

}  // namespace

int32_t require_choice(int32_t best) {
  if (best < 0) fail(FT_ERROR_CHECKPOINT, "every logit is NaN: the weights or the inputs are not finite");
  return best;
}

int32_t argmax(std::span<const float> logits) { return require_choice(first_largest(logits)); }

sampler::choice sampler::sample(std::span<const float> logits, const options& settings,
                                std::span<const int32_t> new_tokens, uint64_t seed) {
  cut(logits, settings, settings.top_p_after(new_tokens), 1);
  if (candidates_.empty()) return {argmax(logits), 0};  // everything is banned; throws when nothing was finite at all

  return draw(uniform(seed, new_tokens.size()));
}

// By the cumulative distribution in the tokens' order, whatever order the cuts have left (ops/sample.h).
sampler::choice sampler::draw(double uniform) {
  std::ranges::sort(candidates_, {}, &candidate::token);
  double total = 0;
  for (const candidate& c : candidates_) total += c.probability;
  double remaining = uniform * total;
  const candidate* chosen = &candidates_.back();  // if rounding lets none be reached
  for (const candidate& c : candidates_) {
    remaining -= c.probability;
    if (remaining >= 0) continue;
    chosen = &c;
    break;
  }
  return {chosen->token, static_cast<float>(std::log(chosen->probability / total))};
}

void sampler::warp(std::span<float> logits, const options& settings, std::span<const int32_t> new_tokens,
                   size_t min_kept) {
  cut(logits, settings, settings.top_p_after(new_tokens), min_kept);
  std::fill(logits.begin(), logits.end(), -std::numeric_limits<float>::infinity());
  for (const candidate& c : candidates_) logits[static_cast<size_t>(c.token)] = c.logit;
}

void sampler::cut(std::span<const float> logits, const options& settings, double top_p, size_t min_kept) {
  constexpr float banned = -std::numeric_limits<float>::infinity();
  const size_t k = std::max(static_cast<size_t>(settings.top_k), min_kept);
  // Compared after the division, as in Hugging Face transformers: ties with the k-th stay.
  const float least = settings.top_k > 0 ? kth_largest(logits, k) / settings.temperature : banned;
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i)
    if (const float logit = logits[i] / settings.temperature; logit >= least && logits[i] > banned)
      candidates_.push_back({logit, static_cast<int32_t>(i), 0, 0});
  if (candidates_.empty()) return;
  set_probabilities();
  cut_by_probability(settings, top_p, min_kept);
}

void sampler::cut_by_probability(const options& settings, double top_p, size_t min_kept) {
  if (top_p < 1) keep_top_p(top_p, min_kept);
  if (settings.min_p > 0) keep_min_p(settings.min_p, min_kept);
  if (settings.typical_p < 1) keep_typical_p(settings.typical_p, min_kept);
}

// -infinity where there are fewer. Of a large vocabulary nearly every logit costs one comparison, with the least of the
// k largest before it.
float sampler::kth_largest(std::span<const float> logits, size_t k) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  if (k > logits.size()) return none;
  largest_.assign(k, none);  // a heap, the least on top
  for (float logit : logits) {
    if (!(logit > largest_.front())) continue;
    std::pop_heap(largest_.begin(), largest_.end(), std::greater<>());
    largest_.back() = logit;
    std::push_heap(largest_.begin(), largest_.end(), std::greater<>());
  }
  return largest_.front();
}

void sampler::set_probabilities() {
  const double highest = std::min_element(candidates_.begin(), candidates_.end(), more_likely)->logit;
  double sum = 0;
  for (candidate& c : candidates_) sum += c.probability = std::exp(c.logit - highest);
  for (candidate& c : candidates_) c.probability /= sum;
}

// The smallest set of most probable tokens that holds at least p.
void sampler::keep_top_p(double p, size_t min_kept) {
  std::sort(candidates_.begin(), candidates_.end(), more_likely);
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && sum < p) sum += candidates_[kept++].probability;
  candidates_.resize(std::min(candidates_.size(), std::max(kept, min_kept)));
}

// Tokens at least p times as probable as the most probable one, and the first `min_kept` in any case.
void sampler::keep_min_p(double p, size_t min_kept) {
  if (min_kept > 1) std::sort(candidates_.begin(), candidates_.end(), more_likely);
  double highest = 0;
  for (const candidate& c : candidates_) highest = std::max(highest, c.probability);
  const auto kept = candidates_.begin() + static_cast<std::ptrdiff_t>(std::min(min_kept - 1, candidates_.size()));
  candidates_.erase(std::remove_if(kept, candidates_.end(), [&](auto& c) { return c.probability < p * highest; }),
                    candidates_.end());
}

// The smallest set that holds at least p of tokens whose information -log P is nearest to the expected, the entropy;
// ties with the last stay.
void sampler::keep_typical_p(double p, size_t min_kept) {
  set_probabilities();
  double entropy = 0;
  for (candidate& c : candidates_) {
    c.surprise = -std::log(c.probability);
    if (c.probability > 0) entropy += c.probability * c.surprise;
  }
  for (candidate& c : candidates_) c.surprise = std::abs(c.surprise - entropy);
  std::sort(candidates_.begin(), candidates_.end(), [](const candidate& a, const candidate& b) {
    return a.surprise != b.surprise ? a.surprise < b.surprise : a.token < b.token;
  });
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates_.size() && sum < p) sum += candidates_[kept++].probability;
  while (kept < candidates_.size() && candidates_[kept].surprise == candidates_[kept - 1].surprise) ++kept;
  candidates_.resize(std::min(candidates_.size(), std::max(kept, min_kept)));
}

}  // namespace ft::decode
