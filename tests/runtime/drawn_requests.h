// What the tests share that run drawn requests on any model: prompts that often begin alike, a session too small for
// all of them, and what they gave.
#pragma once

#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "check.h"
#include "runtime/session.h"

namespace ft::test {

inline const arch::compute_choice exact{.compute = dtype::f32, .key_values = dtype::f32, .name = "float32"};

inline std::vector<runtime::output> outputs(const runtime::request& r) {
  std::vector<runtime::output> list(r.num_outputs());
  for (size_t i = 0; i < list.size(); ++i) r.read_output(i, [&](const runtime::output& o) { list[i] = o; });
  return list;
}

inline std::vector<int32_t> draw_prompt_begun_alike(std::mt19937& random) {
  std::vector<int32_t> prompt;
  for (int32_t i = 0; i < 40; ++i) prompt.push_back(5 + i);
  prompt.resize(1 + random() % 40);
  for (uint32_t more = random() % 12; more > 0; --more) prompt.push_back(static_cast<int32_t>(3 + random() % 60));
  return prompt;
}

// What `count` requests with settings that draw(random) gives bring, in one session with few pages.
template <class Draw>
std::vector<std::vector<runtime::output>> run_drawn(const std::shared_ptr<runtime::model>& m, uint32_t seed, int count,
                                                    Draw draw, std::optional<bool> goes_ahead,
                                                    runtime::session_stats& stats) {
  std::mt19937 random(seed);
  runtime::session_options options{.max_batch_size = 6, .max_tokens_per_step = 17, .goes_ahead = goes_ahead};
  options.kv_cache_bytes = 48 * m->ranks().page_bytes();
  auto s = runtime::session::create(m, options);
  std::vector<std::shared_ptr<runtime::request>> requests;
  for (int i = 0; i < count; ++i) {
    auto r = s->prepare(draw_prompt_begun_alike(random), draw(random), {});
    requests.push_back(r);
    s->submit(r);
    if (random() % 2) s->step();
  }
  std::vector<std::vector<runtime::output>> all;
  for (const auto& r : requests) {
    s->wait(*r);
    CHECK_MSG(r->status() == FT_OK, r->message());
    all.push_back(outputs(*r));
  }
  stats = s->stats();
  CHECK_EQ(stats.pages_in_use, 0);
  s->close();
  return all;
}

// How a request with so long a prompt ends.
inline ft_status status_of_prompt(runtime::session& s, size_t length) {
  decode::options o;
  o.max_new_tokens = 3;
  auto r = s.prepare(std::vector<int32_t>(length, 4), o, {});
  s.submit(r);
  s.wait(*r);
  return r->status();
}

}  // namespace ft::test
