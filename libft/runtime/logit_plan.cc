#include "runtime/logit_plan.h"

#include <algorithm>
#include <bit>

#include "decode/philox.h"

namespace ft::runtime {
namespace {

// Few different sizes, so that steps are seldom recorded anew.
int64_t rounded_up(size_t n, size_t least) { return static_cast<int64_t>(std::max(least, std::bit_ceil(n))); }

void push_float(std::vector<int32_t>& to, float x) { to.push_back(std::bit_cast<int32_t>(x)); }

}  // namespace

void logit_plan::reserve(int64_t rows) {
  const auto n = static_cast<size_t>(rows);
  tokens_.reserve(n);
  penalties_.reserve(3 * n);
  temperatures_.reserve(n);
  uniforms_.reserve(2 * n);
}

void logit_plan::clear() {
  rows_ = {};
  for (auto* v : {&tokens_, &edits_, &penalties_, &temperatures_, &uniforms_}) v->clear();
  tokens = edits = penalties = temperatures = uniforms = {};
}

int32_t logit_plan::add(logits_use use, const request& r, const sequence& s, int32_t token) {
  const auto row = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  const decode::options& settings = r.settings_;
  const auto candidates = [&](int64_t& count, size_t wanted, float temperature) {
    ++count;
    rows_.num_candidates = std::max(rows_.num_candidates, rounded_up(wanted, 8));
    push_float(temperatures_, temperature);
  };
  switch (use) {
    case logits_use::logits:
      ++rows_.logits;
      break;
    case logits_use::log_probabilities:
      ++rows_.log_probabilities;
      break;
    case logits_use::beam_candidates:
      candidates(rows_.beam_candidates, settings.beam_candidates(), 1);
      break;
    case logits_use::candidates:
      if (settings.uses_beams())
        candidates(rows_.candidates, settings.beam_candidates(), 1);
      else
        candidates(rows_.candidates, settings.token_candidates(), settings.do_sample ? settings.temperature : 1);
      break;
    case logits_use::sampled: {
      ++rows_.sampled;
      push_float(temperatures_, settings.temperature);
      const auto bits = std::bit_cast<std::array<int32_t, 2>>(r.uniform_of(s));
      uniforms_.insert(uniforms_.end(), bits.begin(), bits.end());
      break;
    }
    case logits_use::best:
      ++rows_.best;
  }
  const bool is_whole = use == logits_use::logits || use == logits_use::log_probabilities;
  const logit_penalties by = decode::penalties_of(settings);
  for (float x : {by.repetition, by.presence, by.frequency}) push_float(penalties_, x);
  if (!is_whole && settings.edits_logits())
    for (const logit_edit& e : editor_.list(row, s.tokens, r.new_tokens(s).size(), settings))
      edits_.insert(edits_.end(), {e.row, e.token, e.change});
  return row;
}

void logit_plan::finish() {
  if (edits_.empty()) return penalties_.clear();
  const logit_edit none;
  rows_.num_edits = rounded_up(edits_.size() / 3, 64);
  while (edits_.size() < static_cast<size_t>(3 * rows_.num_edits))
    edits_.insert(edits_.end(), {none.row, none.token, none.change});
}

std::array<logit_plan::field, 5> logit_plan::fields() {
  return {{{&tokens, &tokens_},
           {&edits, &edits_},
           {&penalties, &penalties_},
           {&temperatures, &temperatures_},
           {&uniforms, &uniforms_}}};
}

void logit_plan::view() {
  edits = tensor(edits.data, dtype::i32, {rows_.num_edits, 3});
  penalties = tensor(penalties.data, dtype::f32, {penalties.size() / 3, 3});
  temperatures = tensor(temperatures.data, dtype::f32, {temperatures.size()});
  uniforms = tensor(uniforms.data, dtype::f64, {rows_.sampled});
}

}  // namespace ft::runtime
