// Pages: which of them are free, held or kept, and in which order kept ones give way.
#include "runtime/scheduler/page_allocator.h"

#include <map>
#include <random>

#include "check.h"
#include "runtime/scheduler/prefix_index.h"

using namespace ft;
using namespace ft::runtime;

namespace {

constexpr int32_t none = prefix_index::none;
constexpr int64_t page_tokens = 16;

// Against a plain map. Few distinct tokens and buckets, so that pages share buckets and beginnings.
void check_index(uint32_t seed) {
  std::mt19937 random(seed);
  constexpr int32_t pages = 24;
  prefix_index index(pages, 2);
  using key = std::pair<int32_t, std::vector<int32_t>>;
  std::map<key, int32_t> expected;
  std::map<int32_t, key> key_of;
  for (int i = 0; i < 2000; ++i) {
    const auto page = static_cast<int32_t>(random() % pages);
    const key k = {static_cast<int32_t>(random() % 4) - 1,
                   {static_cast<int32_t>(random() % 3), static_cast<int32_t>(random() % 3)}};
    const auto known = expected.find(k);
    CHECK_MSG(index.find(k.first, k.second) == (known == expected.end() ? none : known->second), "seed ", seed);
    CHECK_EQ(index.contains(page), key_of.count(page) > 0);
    if (key_of.count(page)) {
      index.erase(page);
      expected.erase(key_of[page]);
      key_of.erase(page);
    } else if (known == expected.end()) {
      index.insert(page, k.first, k.second);
      expected[k] = page;
      key_of[page] = k;
    }
  }
}

}  // namespace

TEST(the_index_finds_exactly_what_it_holds) {
  for (int i = 0; i < 5; ++i) check_index(std::random_device{}());
}

TEST(kept_pages_give_way_last_ones_and_oldest_first) {
  page_allocator pool(4, page_tokens, 4);
  const std::vector<int32_t> a(16, 1), b(16, 2), c(16, 3);

  // Two pages of one text, a third of another.
  const int32_t first = pool.take(), second = pool.take(), other = pool.take();
  pool.keep(first, none, a);
  pool.keep(second, first, b);
  pool.keep(other, none, c);
  CHECK_EQ(pool.find(none, a), first);
  CHECK_EQ(pool.find(first, b), second);
  CHECK_EQ(pool.find(none, b), none);
  CHECK_EQ(pool.find(other, b), none);
  CHECK_EQ(pool.in_use(), 3);
  pool.give_back(second);
  pool.give_back(first);
  pool.give_back(other);
  CHECK_EQ(pool.in_use(), 0);
  CHECK_EQ(pool.idle(), 3);

  // A page that was found is held again, and becomes the youngest when it is given back.
  pool.share(first);
  CHECK_EQ(pool.in_use(), 1);
  pool.give_back(first);
  CHECK_EQ(pool.idle(), 3);

  const int32_t fresh = pool.take();  // the one that was never used
  CHECK(fresh != first && fresh != second && fresh != other);
  CHECK_EQ(pool.take(), second);
  CHECK_EQ(pool.find(first, b), none);
  CHECK_EQ(pool.take(), other);
  CHECK_EQ(pool.find(none, c), none);
  CHECK_EQ(pool.find(none, a), first);
  CHECK_EQ(pool.take(), first);
  CHECK_EQ(pool.find(none, a), none);
  CHECK_EQ(pool.in_use(), 4);
  CHECK_EQ(pool.idle(), 0);
}

// Texts of a few beginnings come and go. What was ever written to is no more than was held at once and may be kept.
TEST(no_more_is_kept_than_allowed) {
  const uint32_t seed = std::random_device{}();
  std::mt19937 random(seed);
  constexpr int64_t most_idle = 7, total = 64;
  page_allocator pool(total, page_tokens, most_idle);
  std::vector<std::vector<int32_t>> held;
  int64_t most_held = 0;
  int32_t highest = 0;
  bool full = false;
  for (int i = 0; i < 2000; ++i) {
    if (held.size() < 5 && random() % 2) {
      std::vector<int32_t> text;
      int32_t parent = none;
      for (size_t length = 1 + random() % 8; text.size() < length;) {
        const std::vector<int32_t> tokens(16, static_cast<int32_t>(random() % 2));
        int32_t page = pool.find(parent, tokens);
        if (page == none) {
          page = pool.take();
          pool.keep(page, parent, tokens);
        } else {
          pool.share(page);
        }
        text.push_back(parent = page);
        highest = std::max(highest, page);
      }
      held.push_back(std::move(text));
    } else if (!held.empty()) {
      std::swap(held[random() % held.size()], held.back());
      for (auto page = held.back().rbegin(); page != held.back().rend(); ++page) pool.give_back(*page);
      held.pop_back();
    }
    most_held = std::max(most_held, pool.in_use());
    full |= pool.idle() == most_idle;
    CHECK_MSG(pool.idle() <= most_idle, "seed ", seed);
  }
  CHECK_MSG(full && highest < most_held + most_idle, "seed ", seed, ": ", highest, " of ", most_held);
}

TEST(a_page_that_several_requests_pin_counts_once) {
  page_allocator pool(4, page_tokens, 4);
  const std::vector<int32_t> a(16, 1);
  const int32_t page = pool.take();
  pool.keep(page, none, a);
  pool.pin(page);
  pool.pin(page);
  CHECK_EQ(pool.num_pinned(), 1);
  pool.give_back(page);
  pool.unpin(page);
  CHECK(pool.pinned(page) && pool.in_use() == 1);
  pool.unpin(page);
  CHECK_EQ(pool.num_pinned(), 0);
  CHECK_EQ(pool.idle(), 1);
}
