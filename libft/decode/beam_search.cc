#include "decode/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/status.h"
#include "decode/philox.h"

namespace ft::decode {
namespace {

// Higher key first; of equals, the earlier beam and the lower token, so that nothing depends on the order of offers.
constexpr auto better = [](const continuation& a, const continuation& b) {
  if (a.key != b.key) return a.key > b.key;
  return a.parent != b.parent ? a.parent < b.parent : a.token < b.token;
};

// The k-th largest of log p + Gumbel noise is the k-th draw without replacement (arXiv:1903.06059).
double gumbel(uint64_t seed, int64_t length, size_t beam, size_t token) {
  const uint64_t stream = 1 + beam, counter = static_cast<uint64_t>(length) << 32 | token;
  return -std::log(-std::log(uniform(seed, counter, stream)));
}

float normalised(float log_probability, int64_t length, float length_penalty) {
  return log_probability / static_cast<float>(std::pow(static_cast<double>(length), double{length_penalty}));
}

}  // namespace

beam_group::beam_group(const options& settings, int64_t last_length)
    : settings_(settings),
      last_length_(last_length),
      width_(static_cast<size_t>(settings.num_beams / settings.num_beam_groups)),
      num_candidates_(settings.beam_candidates()) {
  candidates_.reserve(num_candidates_ + 1);
  running_.reserve(num_candidates_);
  running_.push_back({});
  chosen_.reserve(width_);
  finished_.reserve(width_ + 1);
  spare_.resize(width_ + 1);
  for (hypothesis& h : spare_) {
    h.tokens.reserve(static_cast<size_t>(last_length));
    if (settings.logprobs != logprobs_kind::none) h.logprobs.reserve(static_cast<size_t>(last_length));
  }
}

void beam_group::offer(size_t beam, std::span<const float> log_probs, std::span<const float> kept, int64_t length) {
  for (size_t token = 0; token < log_probs.size(); ++token)
    consider(beam, token, log_probs[token], kept[token], length);
}

void beam_group::offer(size_t beam, const candidate_row& best, int64_t length) {
  for (size_t i = 0; i < best.size() && best.tokens[i] >= 0; ++i) {
    const float log_prob = best.log_probability(i);
    consider(beam, static_cast<size_t>(best.tokens[i]), log_prob, log_prob, length);
  }
}

inline void beam_group::consider(size_t beam, size_t token, float log_prob, float kept, int64_t length) {
  const float total = log_prob + running_[beam].score;
  saw_number_ |= total == total;
  if (!(total > -std::numeric_limits<float>::infinity())) return;  // banned, or NaN
  const double key = settings_.do_sample ? total + gumbel(settings_.seed, length, beam, token) : double{total};
  if (candidates_.size() == num_candidates_ && key < candidates_.front().key) return;
  keep({static_cast<int32_t>(beam), static_cast<int32_t>(token), total, kept, key, false});
}

void beam_group::keep(const continuation& c) {
  candidates_.push_back(c);
  std::push_heap(candidates_.begin(), candidates_.end(), better);
  if (candidates_.size() <= num_candidates_) return;
  std::pop_heap(candidates_.begin(), candidates_.end(), better);
  candidates_.pop_back();
}

void beam_group::advance(int64_t length, const std::function<bool(int32_t, int32_t)>& ends,
                         const std::function<beam_history(int32_t)>& history) {
  if (candidates_.empty() && !saw_number_)
    fail(FT_ERROR_CHECKPOINT, "every logit is NaN: the weights or the inputs are not finite");
  if (candidates_.empty())
    fail(FT_ERROR_INVALID_ARGUMENT, "the request's settings ban every token: ease bad_words or the logits processor");
  std::sort_heap(candidates_.begin(), candidates_.end(), better);
  for (continuation& c : candidates_) c.ended = ends(c.parent, c.token);
  // Of transformers' two searches the plain one takes what stops and what is cut at the last length alike, by rank; the
  // diverse one takes what stops first and then, unless that was enough, what is left running.
  const bool last = length == last_length_, diverse = settings_.num_beam_groups > 1;
  if (accepts_hypotheses())
    for (size_t i = 0; i < std::min(width_, candidates_.size()); ++i)
      if (candidates_[i].ended || (last && !diverse))
        add_hypothesis(candidates_[i], length, history(candidates_[i].parent));

  running_.clear();
  for (const continuation& c : candidates_)
    if (!c.ended) running_.push_back(c);
  if (settings_.do_sample)
    std::sort(running_.begin(), running_.end(), [](const continuation& a, const continuation& b) {
      return a.score != b.score ? a.score > b.score : better(a, b);
    });
  if (running_.size() > width_) running_.resize(width_);
  chosen_.clear();
  for (const continuation& c : running_) chosen_.push_back(c.token);
  if (last && diverse && accepts_hypotheses())
    for (const continuation& c : running_) add_hypothesis(c, length, history(c.parent));
  if (last) running_.clear();
  judge(length, candidates_.front().score);
  candidates_.clear();
  saw_number_ = false;
}

bool beam_group::accepts_hypotheses() const {
  const bool full = finished_.size() == width_;
  return hopeful_ && !(full && settings_.early_stopping == early_stopping_kind::yes);
}

// The new one stands behind those of the same score, and the worst of too many goes.
void beam_group::add_hypothesis(const continuation& c, int64_t length, const beam_history& history) {
  hypothesis h = std::move(spare_.back());
  spare_.pop_back();
  h.tokens.assign(history.tokens.begin(), history.tokens.end());
  h.tokens.push_back(c.token);
  if (settings_.logprobs != logprobs_kind::none) {
    h.logprobs.assign(history.logprobs.begin(), history.logprobs.end());
    h.logprobs.push_back(c.logprob);
  }
  h.score = normalised(c.score, length, settings_.length_penalty);
  h.stopped = c.ended;
  const auto at = std::upper_bound(finished_.begin(), finished_.end(), h.score,
                                   [](float s, const hypothesis& other) { return s > other.score; });
  finished_.insert(at, std::move(h));
  if (finished_.size() <= width_) return;
  spare_.push_back(std::move(finished_.back()));
  finished_.pop_back();
}

// Transformers looks at the best running beam; its diverse search at the best candidate, ended ones included.
void beam_group::judge(int64_t length, float best_candidate) {
  const bool full = finished_.size() == width_;
  if (running_.empty() || (full && settings_.early_stopping == early_stopping_kind::yes)) {
    done_ = true;
  } else if (full) {
    const bool hope_for_length = settings_.early_stopping == early_stopping_kind::never && settings_.length_penalty > 0;
    const float best = settings_.num_beam_groups > 1 ? best_candidate : running_.front().score;
    const float attainable = normalised(best, hope_for_length ? last_length_ : length, settings_.length_penalty);
    hopeful_ = attainable > finished_.back().score;
    done_ = !hopeful_;
  }
  if (done_) running_.clear();
}

beam_search::beam_search(const options& settings, int64_t last_length) : settings_(settings) {
  groups_.reserve(static_cast<size_t>(settings.num_beam_groups));
  for (int32_t g = 0; g < settings.num_beam_groups; ++g) groups_.emplace_back(settings, last_length);
}

bool beam_search::done() const {
  return std::all_of(groups_.begin(), groups_.end(), [](const beam_group& g) { return g.done(); });
}

std::vector<const hypothesis*> beam_search::best() const {
  std::vector<const hypothesis*> all;
  for (const beam_group& g : groups_)
    for (const hypothesis& h : g.finished()) all.push_back(&h);
  std::stable_sort(all.begin(), all.end(), [](auto* a, auto* b) { return a->score > b->score; });
  all.resize(std::min(all.size(), static_cast<size_t>(settings_.num_return_sequences)));
  return all;
}

size_t beam_search::settled(std::span<const beam_history> histories) const {
  std::span<const int32_t> agreed;
  bool any = false;
  const auto agree = [&](std::span<const int32_t> tokens) {
    if (!any) agreed = tokens;
    any = true;
    const size_t n = std::min(agreed.size(), tokens.size());
    const auto differs = std::mismatch(agreed.begin(), agreed.begin() + static_cast<std::ptrdiff_t>(n), tokens.begin());
    agreed = agreed.first(static_cast<size_t>(differs.first - agreed.begin()));
  };
  const hypothesis* best = nullptr;
  for (const beam_group& g : groups_)
    if (!g.finished().empty() && (!best || g.finished().front().score > best->score)) best = &g.finished().front();
  if (best) agree(best->tokens);
  for (const beam_history& h : histories) agree(h.tokens);
  return agreed.size();
}

}  // namespace ft::decode
