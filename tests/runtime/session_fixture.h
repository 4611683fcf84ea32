// What the tests of sessions share: a tiny model, and requests with drawn prompts.
#pragma once

#include <memory>
#include <random>
#include <vector>

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

inline std::vector<int32_t> draw_prompt(std::mt19937& random) {
  std::vector<int32_t> prompt(1 + random() % 60);
  for (int32_t& t : prompt) t = static_cast<int32_t>(random() % tiny_llama::vocab);
  return prompt;
}

}  // namespace ft::test
