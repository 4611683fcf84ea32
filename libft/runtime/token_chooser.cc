#include "runtime/token_chooser.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "ops/log_softmax.h"

namespace ft::runtime {

using decode::logprobs_kind;

namespace {

float score_of(std::span<const float> logprobs, float length_penalty) {
  double sum = 0;
  for (float l : logprobs) sum += l;
  return static_cast<float>(sum / std::pow(static_cast<double>(logprobs.size()), double{length_penalty}));
}

}  // namespace

token_chooser::token_chooser(int64_t vocab_size)
    : editor_(vocab_size),
      sampler_(vocab_size),
      scratch_(host_memory()),
      host_{cpu_backend(), cpu_backend().ops(), scratch_} {
  copy_.reserve(static_cast<size_t>(vocab_size));
  raw_.reserve(static_cast<size_t>(vocab_size));
  group_tokens_.reserve(decode::max_beams);
  histories_.reserve(decode::max_beams);
}

token_chooser::verdict token_chooser::choose(request& r, step_logits& logits, page_pool& pool) {
  if (r.cancelled()) return {};  // retired before the next step
  return r.beams_ ? choose_beams(r, logits, pool) : choose_each(r, logits, pool);
}

// The sequence's row of logits; a copy, if the row must be kept for another sequence.
std::span<float> token_chooser::row_of(const sequence& s, step_logits& logits, bool keep) {
  const std::span<float> row = logits.whole(s.logits_row);
  if (!keep) return row;
  copy_.assign(row.begin(), row.end());
  return copy_;
}

// Applies the settings and the callbacks, in transformers' order; false when a callback cancels.
bool token_chooser::process(request& r, const sequence& s, std::span<float> row) {
  if (r.settings_.logprobs == logprobs_kind::raw) raw_.assign(row.begin(), row.end());
  for (int32_t token : group_tokens_) row[static_cast<size_t>(token)] -= r.settings_.diversity_penalty;
  const auto num_new = static_cast<int64_t>(r.new_tokens(s).size());
  editor_.edit(row, s.tokens, r.new_tokens(s).size(), r.settings_);
  const request_callbacks& ask = r.callbacks_;
  if (ask.constrain_logits && ask.constrain_logits(s.tokens, row) != FT_CONTINUE) return false;
  decode::force_tokens(row, s.length(), num_new, r.settings_);
  return !ask.on_logits || ask.on_logits(s.tokens, row) == FT_CONTINUE;
}

token_chooser::verdict token_chooser::choose_each(request& r, step_logits& logits, page_pool& pool) {
  if (r.live_ == 1 && r.sequences_[0].logits_row < 0) return {};  // the prompt is not computed yet
  const bool fork = r.live_ < r.sequences_.size();
  if (fork) {
    for (size_t i = 1; i < r.sequences_.size(); ++i) r.sequences_[i].fork(r.sequences_[0], pool);
    r.live_ = r.sequences_.size();
    std::lock_guard lock(r.mutex_);
    r.num_outputs_ = r.live_;
  }
  bool all_ended = true;
  for (size_t i = 0; i < r.live_; ++i) {
    sequence& s = r.sequences_[i];
    if (!s.ended) {
      const verdict v = choose_one(r, i, logits, fork, pool);
      if (v.reason != FT_FINISH_NONE) return v;
    }
    all_ended &= s.ended;
  }
  return {all_ended ? r.outputs_[0].finish_reason : FT_FINISH_NONE};
}

// Of the token in softmax(logits), by the operation that gives those of prompts and beams; the logits are spoilt.
float token_chooser::log_probability(std::span<float> logits, int32_t token) {
  const tensor row(logits.data(), dtype::f32, {1, static_cast<int64_t>(logits.size())});
  ops::log_softmax(host_, {.out = row, .x = row});
  return logits[static_cast<size_t>(token)];
}

// The sequence's next token; false when a callback cancels.
bool token_chooser::pick(request& r, const sequence& s, step_logits& logits, bool keep,
                         decode::sampler::choice& choice) {
  const int32_t at = s.logits_row;
  const bool is_raw = r.settings_.logprobs == logprobs_kind::raw;
  if (logits.is_whole(at)) return pick_here(r, s, row_of(s, logits, keep), choice);
  if (logits.is_sampled(at)) {
    choice = logits.sampled(at);
    if (is_raw) choice.logprob = logits.raw_log_probability(at);
  } else if (logits.has_candidates(at)) {
    const decode::candidate_row best = logits.candidates(at);
    choice = {best.tokens[0], best.log_probability(0)};
  } else {
    choice = {logits.best(at), 0};
  }
  decode::require_choice(choice.token);
  return true;
}

// From the whole row, after the settings and callbacks; false when a callback cancels.
bool token_chooser::pick_here(request& r, const sequence& s, std::span<float> row, decode::sampler::choice& choice) {
  const decode::options& settings = r.settings_;
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
token_chooser::verdict token_chooser::choose_one(request& r, size_t index, step_logits& logits, bool keep,
                                                 page_pool& pool) {
  sequence& s = r.sequences_[index];
  const decode::options& settings = r.settings_;
  decode::sampler::choice choice{};
  if (!pick(r, s, logits, keep, choice)) return {FT_FINISH_CANCELLED, "logits"};
  ++chosen_;

  output& out = r.outputs_[index];
  const int asked = asks_to_stop(r, s, choice.token);
  s.append(choice.token);
  {
    std::lock_guard lock(r.mutex_);
    out.tokens.push_back(choice.token);
    if (r.keeps_logprobs()) out.logprobs.push_back(choice.logprob);
  }
  if (asked != FT_CONTINUE && asked != FT_STOP) return {FT_FINISH_CANCELLED, "stop"};
  const int told = index == 0 && r.callbacks_.on_token ? r.callbacks_.on_token(choice.token) : FT_CONTINUE;
  if (told != FT_CONTINUE && told != FT_STOP) return {FT_FINISH_CANCELLED, "token"};
  const bool stopped = asked == FT_STOP || told == FT_STOP;
  if (!stopped && s.length() < r.last_length_) return {};
  s.ended = true;
  s.release_pages(pool);
  std::lock_guard lock(r.mutex_);
  out.finish_reason = stopped ? FT_FINISH_STOP : FT_FINISH_LENGTH;
  if (r.keeps_logprobs()) out.score = score_of(out.logprobs, settings.length_penalty);
  return {};
}

// FT_STOP for a stop token, else what the callback says of the sequence continued by the token.
int token_chooser::asks_to_stop(request& r, const sequence& s, int32_t token) {
  const auto& stops = r.settings_.stop_token_ids;
  if (std::find(stops.begin(), stops.end(), token) != stops.end()) return FT_STOP;
  if (!r.callbacks_.should_stop) return FT_CONTINUE;
  continued_.assign(s.tokens.begin(), s.tokens.end());
  continued_.push_back(token);
  return r.callbacks_.should_stop(continued_);
}

token_chooser::verdict token_chooser::choose_beams(request& r, step_logits& logits, page_pool& pool) {
  if (r.sequences_[0].logits_row < 0) return {};  // the prompt is not computed yet
  const int64_t num_new = r.sequences_[0].known() - r.prompt_length_;
  const bool first_step = num_new == 0;  // every group starts from the prompt
  const char* cancelled_by = nullptr;
  size_t first = 0, next = 0;
  group_tokens_.clear();
  for (decode::beam_group& group : r.beams_->groups()) {
    if (group.done()) continue;
    sequence* rows = &r.sequences_[first];
    const size_t count = group.running().size();
    for (size_t beam = 0; beam < count; ++beam)
      if (!offer_beam(r, group, beam, rows[beam], logits, first_step)) return {FT_FINISH_CANCELLED, "logits"};
    struct {
      token_chooser* self;
      request& r;
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
      sequence& s = r.next_[next];
      s.fork(rows[c.parent], pool);
      s.append(c.token);
      if (r.keeps_logprobs()) s.logprobs.push_back(c.logprob);
      if (r.sequences_[next].fresh_page >= 0) follow(r, next, group.running(), logits, pool);
      ++next;
    }
    if (r.settings_.diversity_penalty > 0)
      group_tokens_.insert(group_tokens_.end(), group.chosen().begin(), group.chosen().end());
    if (!first_step) first += count;
    chosen_ += count;
  }
  group_tokens_.clear();
  for (sequence& s : r.live()) s.release_pages(pool);
  std::swap_ranges(r.sequences_.begin(), r.sequences_.end(), r.next_.begin());  // a step may know where they lie
  r.live_ = next;
  return publish_beams(r);
}

// The index-th beam's next token is being computed already: on the page that reorder_beams (ops/beams.h) has found.
void token_chooser::follow(request& r, size_t index, std::span<const decode::continuation> running,
                           const step_logits& logits, page_pool& pool) {
  sequence &before = r.sequences_[index], &now = r.next_[index];
  const decode::continuation& c = running[index];
  const beam_choice there = logits.next_beam(before.logits_row);
  FT_CHECK(there.token == c.token && there.parent == c.parent);
  const bool is_first_child = std::ranges::find(running, c.parent, &decode::continuation::parent) ==
                              running.begin() + static_cast<std::ptrdiff_t>(index);
  const int64_t position = r.soft_.prefix_length + now.computed - 1;
  copied_ += now.settle_page(std::exchange(before.fresh_page, -1), is_first_child, position, pool);
}

// `keep`: the row is another group's too. False when a callback cancels.
bool token_chooser::offer_beam(request& r, decode::beam_group& group, size_t beam, const sequence& s,
                               step_logits& logits, bool keep) {
  const int64_t length = s.known() - r.prompt_length_ + 1;
  if (logits.has_candidates(s.logits_row)) {
    group.offer(beam, logits.candidates(s.logits_row), length);
    return true;
  }
  const std::span<float> row = row_of(s, logits, keep);
  if (!process(r, s, row)) return false;
  // Transformers leaves one more than can end the sequence, so that there is always a beam to go on with.
  const size_t stops = r.settings_.stop_token_ids.size();
  if (r.settings_.do_sample) sampler_.warp(row, r.settings_, r.new_tokens(s), stops ? stops + 1 : 2);
  const bool raw = r.settings_.logprobs == logprobs_kind::raw;
  group.offer(beam, row, raw ? std::span<const float>(raw_) : row, length);
  return true;
}

// Lets the caller see the tokens that are settled and, at the end, the best sequences.
token_chooser::verdict token_chooser::publish_beams(request& r) {
  if (!r.beams_->done()) {
    histories_.clear();
    for (const sequence& s : r.live())
      histories_.push_back({std::span(s.tokens).subspan(static_cast<size_t>(r.prompt_length_)), s.logprobs});
    return publish_settled(r, histories_[0].tokens.first(r.beams_->settled(histories_)));
  }
  const auto best = r.beams_->best();
  const verdict v = publish_settled(r, best[0]->tokens);
  if (v.reason != FT_FINISH_NONE) return v;
  std::lock_guard lock(r.mutex_);
  for (size_t i = 0; i < best.size(); ++i) {
    output& out = r.outputs_[i];
    out.tokens.assign(best[i]->tokens.begin(), best[i]->tokens.end());
    out.logprobs.assign(best[i]->logprobs.begin(), best[i]->logprobs.end());
    out.score = best[i]->score;
    out.finish_reason = best[i]->stopped ? FT_FINISH_STOP : FT_FINISH_LENGTH;
  }
  r.num_outputs_ = best.size();
  return {r.outputs_[0].finish_reason};
}

// tokens: all that are settled, those told before among them.
token_chooser::verdict token_chooser::publish_settled(request& r, std::span<const int32_t> tokens) {
  output& out = r.outputs_[0];
  for (size_t i = out.tokens.size(); i < tokens.size(); ++i) {
    {
      std::lock_guard lock(r.mutex_);
      out.tokens.push_back(tokens[i]);
    }
    const int told = r.callbacks_.on_token ? r.callbacks_.on_token(tokens[i]) : FT_CONTINUE;
    if (told == FT_STOP) return {FT_FINISH_STOP};
    if (told != FT_CONTINUE) return {FT_FINISH_CANCELLED, "token"};
  }
  return {};
}

}  // namespace ft::runtime
