// Beam search (and its sampled and diverse variants) over one request: which continuations go on, which have ended,
// and when nothing better can come. Keys and values are not its concern: the scheduler moves the pages.
//
// The rules are those of Hugging Face transformers, so that the same settings give the same tokens and scores:
// - each step keeps the K = max(2, 1 + stop tokens) * width best continuations of all beams together, by accumulated
//   processed log-probability in float32;
// - of these, those that do not end go on, the best `width` of them; those among the first `width` that end become
//   hypotheses, scored by log-probability / length ^ length_penalty, and the best `width` hypotheses are kept;
// - the search is over when `width` hypotheses exist and early_stopping is `yes`, or no running beam can beat the
//   worst of them, by the estimate that early_stopping `no` or `never` asks for.
// Diverse beam search (arXiv:1610.02424) runs num_beam_groups such searches side by side.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "decode/candidates.h"
#include "decode/options.h"

namespace ft::decode {

// The new tokens of a running beam and, where they are kept, their log-probabilities.
struct beam_history {
  std::span<const int32_t> tokens;
  std::span<const float> logprobs;
};

// A sequence that has ended.
struct hypothesis {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  float score = 0;
  bool stopped = false;  // by a stop token or callback; else by its length
};

// What becomes of a running beam: a continuation of `parent` by `token`.
struct continuation {
  int32_t parent = 0;
  int32_t token = 0;
  float score = 0;    // accumulated log-probability
  float logprob = 0;  // the token's own, as it is to be remembered
  double key = 0;     // what it was ranked by: the score, or when sampling the score plus Gumbel noise
  bool ended = false;
};

class beam_group {
 public:
  // `last_length` is the number of new tokens after which every sequence ends. Allocates all that steps need.
  beam_group(const options& settings, int64_t last_length);

  bool done() const { return done_; }
  // Beams to be computed next, best first; before the first step one, which is the prompt.
  std::span<const continuation> running() const { return running_; }
  // The tokens that the last step's best `width` continuations that do not end took, whether they go on or not.
  std::span<const int32_t> chosen() const { return chosen_; }
  // Best first.
  std::span<const hypothesis> finished() const { return finished_; }

  // One step, the `length`-th new token: offer() each running beam's processed log-probabilities [vocab_size], or what
  // options::beam_candidates() of them are the best where nothing processes or samples them; then advance(). `kept` are
  // the log-probabilities to remember, often the same. None of these allocates.
  void offer(size_t beam, std::span<const float> log_probs, std::span<const float> kept, int64_t length);
  void offer(size_t beam, const candidate_row& best, int64_t length);
  // `ends(beam, token)`: whether a continuation ends, its length aside. `history(beam)`: of the beams offered.
  // Throws ft::error when no continuation is possible.
  void advance(int64_t length, const std::function<bool(int32_t beam, int32_t token)>& ends,
               const std::function<beam_history(int32_t beam)>& history);

 private:
  void consider(size_t beam, size_t token, float log_prob, float kept, int64_t length);
  void keep(const continuation& c);
  bool accepts_hypotheses() const;
  void add_hypothesis(const continuation& c, int64_t length, const beam_history& history);
  void judge(int64_t length, float best_candidate);

  const options& settings_;
  const int64_t last_length_;
  const size_t width_;
  const size_t num_candidates_;
  std::vector<continuation> candidates_;  // a heap while they are offered, the worst on top
  std::vector<continuation> running_;
  std::vector<int32_t> chosen_;
  std::vector<hypothesis> finished_;
  std::vector<hypothesis> spare_;  // their memory is used again
  bool saw_number_ = false;        // some log-probability was no NaN
  bool hopeful_ = true;            // a running beam may still beat a finished one
  bool done_ = false;
};

class beam_search {
 public:
  beam_search(const options& settings, int64_t last_length);

  bool done() const;
  std::vector<beam_group>& groups() { return groups_; }
  const std::vector<beam_group>& groups() const { return groups_; }

  // The best hypotheses of all groups, best first, num_return_sequences at most.
  std::vector<const hypothesis*> best() const;
  // How many tokens all running beams (histories) and the best hypothesis so far agree on: these are settled.
  size_t settled(std::span<const beam_history> histories) const;

 private:
  const options& settings_;
  std::vector<beam_group> groups_;
};

}  // namespace ft::decode
