// Who is admitted, in which order, and how seldom the queue is looked at.
#include "runtime/scheduler/waiting_queue.h"

#include <vector>

#include "check.h"

using namespace ft;
using namespace ft::runtime;

namespace {

struct waiter {
  int id;
  int needs;
};

// A queue, and room of which each admitted request takes what it needs.
struct bench {
  waiting_queue<waiter> queue;
  int room = 0, asked = 0;
  std::vector<int> admitted;

  void push(int id, int needs) { queue.push(std::make_shared<waiter>(waiter{id, needs})); }
  bool fits(const waiter& w) {
    ++asked;
    return w.needs <= room;
  }
  bool may_admit() {
    return queue.may_admit([&](const waiter& w) { return fits(w); });
  }
  std::vector<int> admit() {
    admitted.clear();
    queue.admit([&](const waiter& w) { return fits(w); },
                [&](std::shared_ptr<waiter> w) {
                  room -= w->needs;
                  admitted.push_back(w->id);
                });
    return admitted;
  }
  std::vector<int> free(int more) {
    room += more;
    queue.changed();
    return admit();
  }
};

using ids = std::vector<int>;
constexpr int patience = waiting_queue<waiter>::patience, window = static_cast<int>(waiting_queue<waiter>::window);

}  // namespace

TEST(who_fits_is_admitted_in_order_and_passes_who_does_not) {
  bench b;
  b.room = 5;
  b.push(0, 2), b.push(1, 9), b.push(2, 3), b.push(3, 1);
  CHECK(b.may_admit());
  CHECK(b.admit() == (ids{0, 2}));
  CHECK_EQ(b.queue.size(), size_t{2});
  CHECK(b.free(1) == (ids{3}));
  CHECK(b.free(9) == (ids{1}));
  CHECK(b.queue.empty() && !b.may_admit());
}

TEST(who_was_passed_often_is_passed_no_more) {
  bench b;
  b.push(-1, 10);
  for (int i = 0; i < patience; ++i) {
    b.push(i, 1);
    CHECK(b.free(1) == (ids{i}));
  }
  b.push(patience, 1);
  CHECK(b.free(1).empty());
  for (int room = 2; room < 10; ++room) CHECK(b.free(1).empty());
  CHECK(!b.may_admit());
  CHECK(b.free(1) == (ids{-1}));
  CHECK(b.free(1) == (ids{patience}));
}

TEST(nobody_is_asked_again_before_something_changes) {
  bench b;
  for (int i = 0; i < 3; ++i) b.push(i, 5);
  CHECK(b.admit().empty() && b.asked == 3);
  CHECK(b.admit().empty() && !b.may_admit() && b.asked == 3);
  b.push(3, 5);
  CHECK(!b.may_admit() && b.asked == 7);
  CHECK(!b.may_admit() && b.asked == 7);
  b.room = 5;
  CHECK(b.admit().empty() && b.asked == 7);
  b.queue.changed();
  CHECK(b.may_admit() && b.asked == 8);
  CHECK(b.may_admit() && b.asked == 9);  // until it is admitted
  CHECK(b.admit() == (ids{0}));
}

TEST(only_the_first_are_looked_at) {
  bench b;
  for (int i = 0; i < 10'000; ++i) b.push(i, i < window ? 9 : 1);
  b.room = 1;
  CHECK(b.admit().empty());
  CHECK_EQ(b.asked, window);
  b.push(10'000, 1);  // nobody looks at it yet
  CHECK(b.admit().empty());
  CHECK_EQ(b.asked, window);
  // One of the first leaves: the next comes into sight.
  b.queue.remove_if([](const waiter& w) { return w.id == 7; });
  CHECK(b.admit() == (ids{window}));
  CHECK_EQ(b.queue.size(), size_t{9'999});
}

TEST(who_leaves_is_taken_out_wherever_it_waits) {
  bench b;
  for (int i = 0; i < 200; ++i) b.push(i, 1);
  b.queue.remove_if([](const waiter& w) { return w.id % 2 == 1; });
  ids left;
  b.queue.for_each([&](const waiter& w) { left.push_back(w.id); });
  CHECK_EQ(left.size(), size_t{100});
  for (size_t i = 0; i < left.size(); ++i) CHECK_EQ(left[i], static_cast<int>(2 * i));
}

TEST(some_are_found_one_after_another_while_others_join) {
  bench b;
  for (int i = 0; i < 200; ++i) b.push(i, 1);
  ids found;
  size_t at = 0;
  while (const auto w = b.queue.find_from(at, [](const waiter& x) { return x.id % 50 == 49; })) {
    found.push_back(w->id);
    if (b.queue.size() < 204) b.push(249, 1);
  }
  CHECK(found == (ids{49, 99, 149, 199, 249, 249, 249, 249}));
}
