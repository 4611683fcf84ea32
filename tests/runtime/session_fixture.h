// What the tests of sessions share: a tiny model, and requests with drawn prompts.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "check.h"
#include "runtime/session.h"
#include "tiny_model.h"

namespace ft::test {

inline std::shared_ptr<runtime::model> open_tiny(int threads = 2) {
  static tiny_llama folder;
  runtime::model_options options;
  options.num_threads = threads;
  return runtime::model::open(folder.path(), options);
}

inline std::shared_ptr<runtime::request> start(runtime::session& s, const std::vector<int32_t>& prompt,
                                               decode::options settings, runtime::request_callbacks callbacks = {}) {
  auto r = s.prepare(prompt, std::move(settings), std::move(callbacks));
  s.submit(r);
  return r;
}

inline std::shared_ptr<runtime::request> run_alone(const std::shared_ptr<runtime::model>& m,
                                                   const std::vector<int32_t>& prompt, decode::options settings) {
  auto s = runtime::session::create(m, {});
  auto r = start(*s, prompt, std::move(settings));
  s->wait(*r);
  s->close();
  return r;
}

inline std::vector<int32_t> draw_prompt(std::mt19937& random) {
  std::vector<int32_t> prompt(1 + random() % 60);
  for (int32_t& t : prompt) t = static_cast<int32_t>(random() % tiny_llama::vocab);
  return prompt;
}

struct drawn_request {
  std::vector<int32_t> prompt;
  decode::options settings;
  std::shared_ptr<runtime::request> r;
};

// Runs requests with settings that draw(random) gives together in one session, too small for all of them: some join
// as others leave, and prompts are cut in odd places.
template <class Draw>
std::vector<drawn_request> run_together(const std::shared_ptr<runtime::model>& m, std::mt19937& random, Draw draw,
                                        std::optional<bool> goes_ahead = {}) {
  auto s = runtime::session::create(m, {.max_batch_size = 7, .max_tokens_per_step = 19, .goes_ahead = goes_ahead});
  std::vector<drawn_request> all;
  for (int i = 0; i < 40; ++i) {
    const auto prompt = draw_prompt(random);
    const auto settings = draw(random);
    all.push_back({prompt, settings, start(*s, prompt, settings)});
    if (random() % 2) s->step();
  }
  for (auto& one : all) {
    s->wait(*one.r);
    CHECK_MSG(one.r->status() == FT_OK, one.r->message());
  }
  CHECK_EQ(s->stats().pages_in_use, 0);
  s->close();
  return all;
}

}  // namespace ft::test
