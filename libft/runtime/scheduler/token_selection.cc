#include "runtime/scheduler/token_selection.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/status.h"

namespace ft::runtime {

using decode::logprobs_kind;

namespace {

float score_of(std::span<const float> logprobs, float length_penalty) {
  double sum = 0;
  for (float l : logprobs) sum += l;
  return static_cast<float>(sum / std::pow(static_cast<double>(logprobs.size()), double{length_penalty}));
}

}  // namespace

token_selection::token_selection(int64_t vocab_size, std::function<void(std::span<float>)> log_softmax)
    : editor_(vocab_size), sampler_(vocab_size), log_softmax_(std::move(log_softmax)) {
  copy_.reserve(static_cast<size_t>(vocab_size));
  raw_.reserve(static_cast<size_t>(vocab_size));
  group_tokens_.reserve(decode::max_beams);
  histories_.reserve(decode::max_beams);
}

token_selection::verdict token_selection::choose(scheduled_request& r, const step_results& results,
                                                 page_allocator& pool) {
  if (r.cancelled()) return {};  // retired before the next step
  return r.beams ? choose_beams(r, results, pool) : choose_each(r, results, pool);
}

// The sequence's row of logits; a copy, if the row must be kept for another sequence.
std::span<float> token_selection::row_of(const sequence& s, const step_results& results, bool keep) {
  const std::span<float> row = results.whole(s.logits_row);
  if (!keep) return row;
  copy_.assign(row.begin(), row.end());
  return copy_;
}

// Applies the settings and the callbacks, in transformers' order; false when a callback cancels.
bool token_selection::process(scheduled_request& r, const sequence& s, std::span<float> row) {
  if (r.settings().logprobs == logprobs_kind::raw) raw_.assign(row.begin(), row.end());
  for (int32_t token : group_tokens_) row[static_cast<size_t>(token)] -= r.settings().diversity_penalty;
  const auto num_new = static_cast<int64_t>(r.new_tokens(s).size());
  editor_.edit(row, s.tokens, r.new_tokens(s).size(), r.settings());
  const request_callbacks& ask = r.callbacks();
  if (ask.constrain_logits && ask.constrain_logits(s.tokens, row) != FT_CONTINUE) return false;
  decode::force_tokens(row, s.length(), num_new, r.settings());
  return !ask.on_logits || ask.on_logits(s.tokens, row) == FT_CONTINUE;
}

token_selection::verdict token_selection::choose_each(scheduled_request& r, const step_results& results,
                                                      page_allocator& pool) {
  if (r.num_live == 1 && r.sequences[0].logits_row < 0) return {};  // the prompt is not computed yet
  const bool fork = r.num_live < r.sequences.size();
  if (fork) {
    for (size_t i = 1; i < r.sequences.size(); ++i) r.sequences[i].fork(r.sequences[0], pool);
    r.num_live = r.sequences.size();
    r.show_outputs(r.num_live);
  }
  bool all_ended = true;
  for (size_t i = 0; i < r.num_live; ++i) {
    sequence& s = r.sequences[i];
    if (!s.ended) {
      const verdict v = choose_one(r, i, results, fork, pool);
      if (v.reason != FT_FINISH_NONE) return v;
    }
    all_ended &= s.ended;
  }
  return {all_ended ? r.output_at(0).finish_reason : FT_FINISH_NONE};
}

// Of the token in softmax(logits), by the operation that gives those of prompts and beams; the logits are spoilt.
float token_selection::log_probability(std::span<float> logits, int32_t token) {
  log_softmax_(logits);
  return logits[static_cast<size_t>(token)];
}

// The sequence's next token; false when a callback cancels.
bool token_selection::pick(scheduled_request& r, const sequence& s, const step_results& results, bool keep,
                           decode::sampler::choice& choice) {
  const int32_t at = s.logits_row;
  const bool is_raw = r.settings().logprobs == logprobs_kind::raw;
  if (results.is_whole(at)) return pick_here(r, s, row_of(s, results, keep), choice);
  if (results.is_drawn(at)) {
    choice = results.drawn(at);
    if (is_raw) choice.logprob = results.raw_log_probability(at);
  } else if (results.has_candidates(at)) {
    const decode::candidate_row best = results.candidates(at);
    choice = {best.tokens[0], best.log_probability(0)};
  } else {
    choice = {results.best(at), 0};
  }
  decode::require_choice(choice.token);
  return true;
}

// From the whole row, after the settings and callbacks; false when a callback cancels.
bool token_selection::pick_here(scheduled_request& r, const sequence& s, std::span<float> row,
                                decode::sampler::choice& choice) {
  const decode::options& settings = r.settings();
  if (!process(r, s, row)) return false;
  if (settings.do_sample) {
    choice = sampler_.sample(row, settings, r.new_tokens(s), r.seed_of(s));
  } else {
    choice.token = decode::argmax(row);
    if (settings.logprobs == logprobs_kind::processed) choice.logprob = log_probability(row, choice.token);
  }
  if (settings.logprobs == logprobs_kind::raw) choice.logprob = log_probability(raw_, choice.token);
  return true;
}

// `keep`: the row is another sequence's too. A verdict is the whole request's: FT_FINISH_NONE although the sequence may
// have ended.
token_selection::verdict token_selection::choose_one(scheduled_request& r, size_t index, const step_results& results,
                                                     bool keep, page_allocator& pool) {
  sequence& s = r.sequences[index];
  const decode::options& settings = r.settings();
  decode::sampler::choice choice{};
  if (!pick(r, s, results, keep, choice)) return {FT_FINISH_CANCELLED, "logits"};
  ++chosen_;

  const int asked = asks_to_stop(r, s, choice.token);
  s.append(choice.token);
  r.append(index, choice.token, choice.logprob);
  if (asked != FT_CONTINUE && asked != FT_STOP) return {FT_FINISH_CANCELLED, "stop"};
  const int told = index == 0 && r.callbacks().on_token ? r.callbacks().on_token(choice.token) : FT_CONTINUE;
  if (told != FT_CONTINUE && told != FT_STOP) return {FT_FINISH_CANCELLED, "token"};
  const bool stopped = asked == FT_STOP || told == FT_STOP;
  if (!stopped && s.length() < r.last_length) return {};
  s.ended = true;
  s.release_pages(pool);
  const output& out = r.output_at(index);
  const float score = r.keeps_logprobs() ? score_of(out.logprobs, settings.length_penalty) : out.score;
  r.end_output(index, stopped ? FT_FINISH_STOP : FT_FINISH_LENGTH, score);
  return {};
}

// FT_STOP for a stop token, else what the callback says of the sequence continued by the token.
int token_selection::asks_to_stop(scheduled_request& r, const sequence& s, int32_t token) {
  const auto& stops = r.settings().stop_token_ids;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return FT_STOP;
  if (!r.callbacks().should_stop) return FT_CONTINUE;
  continued_.reserve(static_cast<size_t>(r.last_length));
  continued_.assign(s.tokens.begin(), s.tokens.end());
  continued_.push_back(token);
  return r.callbacks().should_stop(continued_);
}

token_selection::verdict token_selection::choose_beams(scheduled_request& r, const step_results& results,
                                                       page_allocator& pool) {
  if (r.sequences[0].logits_row < 0) return {};  // the prompt is not computed yet
  const int64_t num_new = r.sequences[0].known() - r.prompt_length();
  const bool first_step = num_new == 0;  // every group starts from the prompt
  const char* cancelled_by = nullptr;
  size_t first = 0, next = 0;
  group_tokens_.clear();
  for (decode::beam_group& group : r.beams->groups()) {
    if (group.done()) continue;
    sequence* rows = &r.sequences[first];
    const size_t count = group.running().size();
    for (size_t beam = 0; beam < count; ++beam)
      if (!offer_beam(r, group, beam, rows[beam], results, first_step)) return {FT_FINISH_CANCELLED, "logits"};
    struct {
      token_selection* self;
      scheduled_request& r;
      sequence* rows;
      int64_t num_new;
      const char*& cancelled_by;
    } context{this, r, rows, num_new, cancelled_by};
    group.advance(
        num_new + 1,
        [&context](int32_t beam, int32_t token) {
          const int asked = context.self->asks_to_stop(context.r, context.rows[beam], token);
          if (asked != FT_CONTINUE && asked != FT_STOP) context.cancelled_by = "stop";
          return asked == FT_STOP;
        },
        [&context](int32_t beam) {
          const sequence& s = context.rows[beam];
          return decode::beam_history{std::span(s.tokens).last(static_cast<size_t>(context.num_new)), s.logprobs};
        });
    if (cancelled_by) return {FT_FINISH_CANCELLED, cancelled_by};
    for (const decode::continuation& c : group.running()) {
      sequence& s = r.next[next];
      s.fork(rows[c.parent], pool);
      s.append(c.token);
      if (r.keeps_logprobs()) s.logprobs.push_back(c.logprob);
      if (r.sequences[next].fresh_page >= 0) follow(r, next, group.running(), results, pool);
      ++next;
    }
    if (r.settings().diversity_penalty > 0)
      group_tokens_.insert(group_tokens_.end(), group.chosen().begin(), group.chosen().end());
    if (!first_step) first += count;
    chosen_ += count;
  }
  group_tokens_.clear();
  for (sequence& s : r.live()) s.release_pages(pool);
  std::swap_ranges(r.sequences.begin(), r.sequences.end(), r.next.begin());  // a step may know where they lie
  r.num_live = next;
  return publish_beams(r);
}

// The index-th beam's next token is being computed already: on the page that follow_beams (ops/beams.h) has found.
void token_selection::follow(scheduled_request& r, size_t index, std::span<const decode::continuation> running,
                             const step_results& results, page_allocator& pool) {
  sequence &before = r.sequences[index], &now = r.next[index];
  const decode::continuation& c = running[index];
  const beam_choice there = results.next_beam(before.logits_row);
  FT_CHECK(there.token == c.token && there.parent == c.parent);
  const bool is_first_child = std::ranges::find(running, c.parent, &decode::continuation::parent) ==
                              running.begin() + static_cast<std::ptrdiff_t>(index);
  const int64_t position = r.soft.prefix_length + now.computed - 1;
  copied_ += now.settle_page(std::exchange(before.fresh_page, -1), is_first_child, position, pool);
}

// `keep`: the row is another group's too. False when a callback cancels.
bool token_selection::offer_beam(scheduled_request& r, decode::beam_group& group, size_t beam, const sequence& s,
                                 const step_results& results, bool keep) {
  const int64_t length = s.known() - r.prompt_length() + 1;
  if (results.has_candidates(s.logits_row)) {
    group.offer(beam, results.candidates(s.logits_row), length);
    return true;
  }
  const std::span<float> row = row_of(s, results, keep);
  if (!process(r, s, row)) return false;
  // Transformers leaves one more than can end the sequence, so that there is always a beam to go on with.
  const size_t stops = r.settings().stop_token_ids.size();
  if (r.settings().do_sample) sampler_.warp(row, r.settings(), r.new_tokens(s), stops ? stops + 1 : 2);
  const bool raw = r.settings().logprobs == logprobs_kind::raw;
  group.offer(beam, row, raw ? std::span<const float>(raw_) : row, length);
  return true;
}

// Lets the caller see the tokens that are settled and, at the end, the best sequences.
token_selection::verdict token_selection::publish_beams(scheduled_request& r) {
  if (!r.beams->done()) {
    histories_.clear();
    for (const sequence& s : r.live())
      histories_.push_back({std::span(s.tokens).subspan(static_cast<size_t>(r.prompt_length())), s.logprobs});
    return publish_settled(r, histories_[0].tokens.first(r.beams->settled(histories_)));
  }
  const auto best = r.beams->best();
  const verdict v = publish_settled(r, best[0]->tokens);
  if (v.reason != FT_FINISH_NONE) return v;
  for (size_t i = 0; i < best.size(); ++i)
    r.replace_output(i, best[i]->tokens, best[i]->logprobs, best[i]->score,
                     best[i]->stopped ? FT_FINISH_STOP : FT_FINISH_LENGTH);
  r.show_outputs(best.size());
  return {r.output_at(0).finish_reason};
}

// tokens: all that are settled, those told before among them.
token_selection::verdict token_selection::publish_settled(scheduled_request& r, std::span<const int32_t> tokens) {
  for (size_t i = r.output_at(0).tokens.size(); i < tokens.size(); ++i) {
    r.append_settled(tokens[i]);
    const int told = r.callbacks().on_token ? r.callbacks().on_token(tokens[i]) : FT_CONTINUE;
    if (told == FT_STOP) return {FT_FINISH_STOP};
    if (told != FT_CONTINUE) return {FT_FINISH_CANCELLED, "token"};
  }
  return {};
}

}  // namespace ft::runtime
