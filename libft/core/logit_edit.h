// What penalties and bans make of a single logit. The host makes lists of such edits, and the device that holds the
// logits carries them out.
#pragma once

#include <cstdint>
#include <limits>

namespace ft {

// A request's, as its settings name them.
struct logit_penalties {
  float repetition = 1;
  float presence = 0;
  float frequency = 0;
};

struct logit_edit {
  static constexpr int32_t ban = -1;

  int32_t row = -1;  // -1: no edit
  int32_t token = 0;
  // `ban`, or 2 * how often the token came among the new ones + whether it is penalised for coming at all.
  int32_t change = 0;
};

// A row's edit of a token that the device has chosen and the host does not know yet.
struct late_edit {
  int32_t place = -1;  // where the device has left the token; -1: no edit
  int32_t change = 0;
};

// Two changes of one token.
constexpr int32_t joined(int32_t a, int32_t b) {
  if (a == logit_edit::ban || b == logit_edit::ban) return logit_edit::ban;
  return ((a | b) & 1) + (a / 2 + b / 2) * 2;
}

// Repetition divides what is positive and multiplies what is negative (arXiv:1909.05858); presence is taken off once
// and frequency each time.
inline float edited(float logit, int32_t change, const logit_penalties& by) {
  if (change == logit_edit::ban) return -std::numeric_limits<float>::infinity();
  if (change & 1) logit = logit < 0 ? logit * by.repetition : logit / by.repetition;
  for (int32_t times = 0; times < change / 2; ++times) logit -= by.frequency + (times == 0 ? by.presence : 0);
  return logit;
}

}  // namespace ft
