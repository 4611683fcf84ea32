// Sessions and requests as they come, drawn: every kind of each beside every other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "scheduler/driver.h"

namespace ft::test {

struct drawer {
  std::mt19937& random;

  uint32_t below(uint32_t n) const { return static_cast<uint32_t>(random() % n); }
  bool one_in(uint32_t n) const { return below(n) == 0; }
  int32_t between(int32_t least, int32_t most) const {
    return least + static_cast<int32_t>(below(static_cast<uint32_t>(most - least + 1)));
  }
  float unit() const { return static_cast<float>(below(1000)) / 1000; }
  int32_t token() const { return between(0, fake_model::vocab - 1); }
  std::vector<int32_t> tokens(int32_t most) const {
    std::vector<int32_t> list(static_cast<size_t>(between(1, most)));
    for (int32_t& t : list) t = token();
    return list;
  }
};

inline void draw_penalties(const drawer& d, decode::options& o) {
  if (d.one_in(3)) o.repetition_penalty = 0.7f + d.unit();
  if (d.one_in(3)) o.presence_penalty = d.unit() - 0.3f, o.frequency_penalty = d.unit() / 2;
  if (d.one_in(4)) o.min_new_tokens = d.between(0, o.max_new_tokens);
  if (d.one_in(4)) o.bad_words = {{d.token()}, {d.token()}};
  if (d.one_in(8)) o.bad_words.push_back({d.token(), d.token()});
  if (d.one_in(8)) o.no_repeat_ngram_size = d.between(2, 3);
}

inline void draw_cuts(const drawer& d, decode::options& o) {
  if (d.one_in(2)) o.temperature = 0.3f + d.unit();
  if (d.one_in(3)) o.top_k = d.between(1, 50);
  if (d.one_in(3)) o.top_p = 0.3f + 0.69f * d.unit();
  if (d.one_in(4)) o.min_p = d.unit() / 4;
  if (d.one_in(8)) o.typical_p = 0.3f + 0.6f * d.unit();
  if (d.one_in(8)) o.top_p_decay = 0.8f, o.top_p_reset_id = d.token();
}

inline decode::options draw_settings(const drawer& d, int32_t most_new, int32_t widest) {
  decode::options o;
  o.max_new_tokens = d.between(1, most_new);
  o.seed = d.random();
  o.logprobs = static_cast<decode::logprobs_kind>(d.below(3));
  for (uint32_t stops = d.below(4); stops > 0; --stops) o.stop_token_ids.push_back(d.token());
  if (d.one_in(10)) o.forced_bos_token_id = d.token();
  if (d.one_in(10)) o.forced_eos_token_ids = {d.token()};
  if (d.one_in(3)) draw_penalties(d, o);
  switch (d.below(5)) {
    case 0:
      break;
    case 1:
    case 2:
      o.do_sample = true;
      if (d.one_in(2)) draw_cuts(d, o);
      if (d.one_in(3)) o.num_return_sequences = d.between(1, std::min(4, widest));
      break;
    default:
      if (widest < 2) break;
      o.num_beams = d.between(2, std::min(6, widest));
      o.num_return_sequences = d.between(1, o.num_beams);
      o.early_stopping = static_cast<decode::early_stopping_kind>(d.below(3));
      o.length_penalty = static_cast<float>(d.below(3));
      if (o.num_beams % 2 == 0 && d.one_in(3)) {
        o.num_beam_groups = 2;
        o.diversity_penalty = d.one_in(2) ? 0.5f : 0;
      } else if (d.one_in(4)) {
        o.do_sample = true;
        draw_cuts(d, o);
      }
  }
  return o;
}

inline runtime::soft_prompt draw_soft_prompt(const drawer& d, size_t prompt_length, bool may_have_prefix) {
  runtime::soft_prompt soft;
  const auto draw = [&](std::vector<float>& values, size_t count) {
    values.resize(count);
    for (float& x : values) x = d.unit();
  };
  if (d.one_in(2))
    for (size_t p = 0; p < prompt_length; ++p)
      if (d.one_in(3)) soft.positions.push_back(static_cast<int32_t>(p));
  draw(soft.embeddings, soft.positions.size() * fake_model::embedding_size);
  if (may_have_prefix && d.one_in(2)) soft.prefix_length = d.between(1, 20);
  draw(soft.prefix, 2 * static_cast<size_t>(soft.prefix_length));
  return soft;
}

// One session's worth: what its requests have in common.
struct workload {
  driver_options options;
  std::vector<std::vector<int32_t>> beginnings;
  int32_t most_new = 30;
  bool plain = false;  // only what steps can go ahead of

  drawn_request draw(const drawer& d) const {
    drawn_request r;
    if (d.one_in(2)) {
      r.prompt = beginnings[d.below(static_cast<uint32_t>(beginnings.size()))];
      r.prompt.resize(1 + d.below(static_cast<uint32_t>(r.prompt.size())));
    }
    for (int32_t t : d.tokens(d.one_in(4) ? 40 : 8)) r.prompt.push_back(t);
    r.settings = draw_settings(d, most_new, static_cast<int32_t>(options.max_batch_size));
    if (plain) {
      r.settings.top_p_decay = 1;
      r.settings.no_repeat_ngram_size = 0;
      r.settings.typical_p = 1;
      r.settings.num_beam_groups = 1;
      if (r.settings.logprobs == decode::logprobs_kind::raw) r.settings.logprobs = decode::logprobs_kind::processed;
      if (r.settings.uses_beams()) {
        r.settings.do_sample = false;
        r.settings.repetition_penalty = 1;
        r.settings.presence_penalty = r.settings.frequency_penalty = 0;
        r.settings.min_new_tokens = 0;
        r.settings.bad_words.clear();
      }
    }
    if (d.one_in(8)) r.settings.prompt_logprobs = true;
    if (options.limits.is_encoder_decoder) {
      for (int32_t& t : r.prompt) t += d.between(0, fake_model::encoder_vocab - fake_model::vocab);
      if (d.one_in(3)) r.settings.decoder_input_ids = d.tokens(10);
    }
    if (d.one_in(8)) r.soft = draw_soft_prompt(d, r.prompt.size(), !options.limits.is_encoder_decoder);
    if (d.one_in(plain ? 40 : 8)) r.stops_one_in = d.between(5, 40);
    if (d.one_in(plain ? 40 : 10)) r.steers_one_in = d.between(1, 5);
    if (d.one_in(plain ? 40 : 12)) r.constrains = true;
    if (d.one_in(12)) r.stop_after = d.between(1, 20);
    if (d.one_in(20)) r.cancel_after = d.between(1, 20);
    return r;
  }
};

inline workload draw_workload(const drawer& d) {
  workload w;
  driver_options& o = w.options;
  o.limits = d.one_in(4) ? encoder_decoder_limits() : decoder_limits();
  o.goes_ahead = d.one_in(2);
  w.plain = d.one_in(2);
  o.page_tokens = d.one_in(3) ? 16 : d.between(1, 5);
  o.max_batch_size = d.one_in(4) ? d.between(1, 3) : d.between(4, 16);
  o.max_tokens_per_step = d.one_in(3) ? d.between(1, 6) : d.between(7, 200);
  // A request takes at most what the widest does; some of these sessions have little more.
  const int64_t one = runtime::pages_for(o.limits.max_positions, o.page_tokens);
  o.num_pages = one * (d.one_in(2) ? 2 : 8) + d.between(0, 20);
  o.most_idle_pages = d.one_in(3) ? d.between(0, 10) : o.num_pages;
  o.prefix_cache = !d.one_in(4);
  for (int i = 0; i < 3; ++i) w.beginnings.push_back(d.tokens(50));
  w.most_new = d.between(5, 60);
  return w;
}

// f(step, driver) for the steps of a drawn session, before the worker gets them.
template <class F>
void each_step(std::mt19937& random, F&& f) {
  const drawer d{random};
  const workload w = draw_workload(d);
  driver s(w.options);
  s.on_launch = [&](const runtime::scheduled_step& step) { f(step, s); };
  for (int requests = d.between(5, 30); requests > 0; --requests) {
    try {
      s.submit(w.draw(d));
    } catch (const error&) {  // it can never fit
    }
    for (uint32_t steps = d.below(4); steps > 0; --steps) s.step(d.one_in(2));
  }
  for (int i = 0; i < 40 && s.step(d.one_in(2)) > 0; ++i) continue;
}

}  // namespace ft::test
