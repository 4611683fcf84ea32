// Composes steps by hand, with requests that no scheduler has.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "runtime/scheduler/scheduled_step.h"
#include "scheduler/driver.h"

namespace ft::test {

struct composer {
  runtime::model_limits limits = decoder_limits();
  int64_t most_pages = 4;  // of a row
  runtime::page_allocator pages{40, 4, 0};
  runtime::scheduled_step step{limits, 0};
  runtime::sampling_composer sampling{limits.vocab_size};
  std::vector<std::shared_ptr<runtime::scheduled_request>> added;

  using request_ptr = std::shared_ptr<runtime::scheduled_request>;

  request_ptr make(std::vector<int32_t> prompt, decode::options settings = {}, runtime::soft_prompt soft = {},
                   runtime::request_callbacks callbacks = {}) const {
    const auto plan = runtime::plan_request(limits, pages.page_tokens(), prompt, settings, soft);
    return std::make_shared<runtime::scheduled_request>(limits, plan, settings, std::move(callbacks), std::move(soft),
                                                        true, std::make_shared<std::atomic<bool>>(false));
  }
  // One whose prompt is computed, with the first new token of each sequence.
  request_ptr make_decoding(std::vector<int32_t> prompt, std::vector<int32_t> new_tokens, decode::options settings = {},
                            runtime::request_callbacks callbacks = {}) {
    request_ptr r = make(std::move(prompt), settings, {}, std::move(callbacks));
    runtime::sequence& first = r->sequences[0];
    pages.cover(first.pages, r->prompt_length());
    first.computed = r->prompt_length();
    for (size_t i = 1; i < r->sequences.size(); ++i) r->sequences[i].fork(first, pages);
    r->num_live = r->sequences.size();
    if (r->beams) new_tokens = first_beams(*r, new_tokens);
    for (size_t i = 0; i < r->sequences.size(); ++i) r->sequences[i].append(new_tokens.at(i));
    return r;
  }
  // What a search takes where each of these tokens is worth 1 less than the one before, and the others far less.
  static std::vector<int32_t> first_beams(runtime::scheduled_request& r, const std::vector<int32_t>& wanted) {
    std::vector<float> row(fake_model::vocab, -20);
    for (size_t i = 0; i < wanted.size(); ++i) row[static_cast<size_t>(wanted[i])] = -1 - static_cast<float>(i);
    std::vector<int32_t> tokens;
    for (decode::beam_group& group : r.beams->groups()) {
      group.offer(0, row, row, 1);
      group.advance(1, [](int32_t, int32_t) { return false; }, [](int32_t) { return decode::beam_history{}; });
      for (const decode::continuation& c : group.running()) tokens.push_back(c.token);
    }
    return tokens;
  }

  // The sequence's `count` next tokens.
  void add(const request_ptr& r, int64_t count = 1, size_t index = 0) {
    added.push_back(r);
    runtime::sequence& s = r->sequences[index];
    s.scheduled = count;
    step.add_row(*r, s, pages);
  }
  const runtime::step_plan& finish() {
    step.finish(pages, most_pages, sampling);
    return step.plan();
  }
  // As though it had been computed; then another can be composed.
  void next_step() {
    step.each_row([](const runtime::scheduled_request&, runtime::sequence& s) { s.computed += s.scheduled; });
    step.clear();
  }
};

using ints = std::vector<int32_t>;
using floats = std::vector<float>;

}  // namespace ft::test
