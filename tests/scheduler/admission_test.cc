// Who is admitted when pages are few: large requests neither stop everyone nor starve, nobody who waits costs a step
// anything, and who was cancelled leaves at once.
#include <chrono>
#include <future>

#include "scheduler/driver.h"

using namespace ft;
using namespace ft::runtime;
using namespace ft::test;

namespace {

drawn_request greedy(int32_t max_new, std::vector<int32_t> prompt = {1, 2, 3}) {
  drawn_request r;
  r.prompt = std::move(prompt);
  r.settings.max_new_tokens = max_new;
  return r;
}

}  // namespace

// Each of the large ones can come to hold 30 of 40 pages.
TEST(small_requests_pass_a_large_one_that_must_wait_until_it_has_waited_long_enough) {
  for (bool goes_ahead : {false, true}) {
    driver s({.num_pages = 40, .prefix_cache = false, .goes_ahead = goes_ahead});
    const auto first = s.submit(greedy(117)), second = s.submit(greedy(117));
    for (int i = 0; i < 3; ++i) {
      const auto small = s.submit(greedy(2));
      for (int step = 0; step < 4; ++step) s.step();
      CHECK(small->finished() && !first->finished() && !second->finished());
    }
    // With small ones always at hand, the second large one still comes.
    first->cancel();
    std::vector<std::shared_ptr<scheduled_request>> smalls;
    const auto third = s.submit(greedy(117));
    int64_t steps = 0;
    for (; !third->finished(); ++steps) {
      CHECK_MSG(steps < 2000, "the large request starves");
      while (s.scheduler.unfinished() < 20) smalls.push_back(s.submit(greedy(12)));
      s.step();
    }
    CHECK(second->finish_reason() == FT_FINISH_LENGTH && third->finish_reason() == FT_FINISH_LENGTH);
    s.finish_all(2000);
    for (const auto& r : smalls) CHECK_EQ(r->finish_reason(), FT_FINISH_LENGTH);
  }
}

TEST(a_cancelled_request_behind_a_blocked_one_is_retired_at_once) {
  driver s({.num_pages = 40, .prefix_cache = false});
  const auto running = s.submit(greedy(117)), blocked = s.submit(greedy(117)), behind = s.submit(greedy(117));
  s.step();
  behind->cancel();
  s.step();
  CHECK(behind->finish_reason() == FT_FINISH_CANCELLED && behind->status() == FT_ERROR_CANCELLED);
  CHECK(!running->finished() && !blocked->finished());
  CHECK_EQ(s.scheduler.unfinished(), size_t{2});
  auto made = s.scheduler.prepare(std::vector<int32_t>{1}, {}, {});
  made->cancel();  // before it waits
  s.scheduler.submit(made);
  s.step();
  CHECK_EQ(made->finish_reason(), FT_FINISH_CANCELLED);
  s.scheduler.cancel_all();
  s.finish_all(2);
  CHECK_EQ(s.scheduler.stats().pages_in_use, 0);
}

TEST(steps_go_ahead_however_many_wait) {
  driver s({.max_batch_size = 2, .num_pages = 80, .goes_ahead = true});
  for (int i = 0; i < 10'000; ++i) s.submit(greedy(100, {i % 40, i / 40 % 40, 1}));
  s.step();
  const int64_t before = s.went_ahead;
  for (int i = 0; i < 80; ++i) s.step();
  CHECK_EQ(s.went_ahead - before, 80);
  s.scheduler.cancel_all();
  s.finish_all(2);
}

TEST(what_can_never_fit_is_refused) {
  driver s({.max_batch_size = 2, .num_pages = 20});
  CHECK_ERROR(FT_ERROR_OUT_OF_MEMORY, "take 21 key-value pages of 4 tokens; the session has 20", s.submit(greedy(79)));
  drawn_request wide = greedy(3);
  wide.settings.num_beams = 3;
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "num_beams is 3", s.submit(wide));
}

// The one who cancels may have set the request's flag and not yet the scheduler's: the request must not come into
// another step. Another's cancellation stands for that.
TEST(a_request_that_ends_does_not_come_into_another_step) {
  driver s({});
  const auto a = s.submit(greedy(50)), b = s.submit(greedy(50, {7, 8}));
  s.step();
  a->cancel();
  scheduled_step step = s.scheduler.make_step(0);
  s.scheduler.retire_cancelled();
  s.scheduler.compose(step);  // though nobody has removed it yet
  CHECK_EQ(step.plan().num_rows(), 1);
  CHECK(step.requests()[0] == b.get());
  s.fail_steps(FT_ERROR_INTERNAL);
  s.scheduler.cancel_all();
  s.finish_all(2);
}

TEST(callbacks_may_submit_and_cancel) {
  driver s({.max_batch_size = 1});
  std::vector<std::shared_ptr<scheduled_request>> more;
  request_callbacks callbacks;
  callbacks.on_token = [&](int32_t) {
    more.push_back(s.submit(greedy(2)));
    if (more.size() == 2) more[0]->cancel();
    return FT_CONTINUE;
  };
  decode::options settings;
  settings.max_new_tokens = 3;
  s.scheduler.submit(s.scheduler.prepare(std::vector<int32_t>{1}, settings, callbacks));
  s.finish_all(20);
  CHECK_EQ(more.size(), size_t{3});
  CHECK_EQ(more[0]->finish_reason(), FT_FINISH_CANCELLED);
  CHECK(more[1]->finish_reason() == FT_FINISH_LENGTH && more[2]->finish_reason() == FT_FINISH_LENGTH);
}

// Whether another thread gets its submission through, asked there so that one that does not is a failure and no hang.
struct submits_when_it_goes {
  driver& s;
  std::vector<std::future<void>>& submissions;
  bool& blocked;
  ~submits_when_it_goes() {
    submissions.push_back(std::async(std::launch::async, [to = &s] { to->submit(greedy(2)); }));
    blocked = submissions.back().wait_for(std::chrono::seconds(5)) != std::future_status::ready;
    if (blocked) return;
    s.submit(greedy(2));
    s.scheduler.cancel_all();
  }
};

TEST(what_a_cancelled_requests_callbacks_hold_may_submit_and_cancel_when_it_goes) {
  for (bool running : {false, true}) {
    driver s({.max_batch_size = running ? 2 : 1});
    std::vector<std::future<void>> submissions;
    bool blocked = false;
    const auto first = s.submit(greedy(50));
    const auto second = [&] {
      std::shared_ptr<submits_when_it_goes> held(new submits_when_it_goes{s, submissions, blocked});
      return s.scheduler.prepare(std::vector<int32_t>{1}, {}, {.on_token = [held](int32_t) { return FT_CONTINUE; }});
    }();
    s.scheduler.submit(second);
    const auto behind = s.submit(greedy(50));
    s.step();
    second->cancel();
    s.step();
    CHECK(!blocked);
    CHECK_EQ(submissions.size(), size_t{1});
    CHECK_EQ(second->finish_reason(), FT_FINISH_CANCELLED);
    s.finish_all(10);
    CHECK(first->finish_reason() == FT_FINISH_CANCELLED && behind->finish_reason() == FT_FINISH_CANCELLED);
  }
}
