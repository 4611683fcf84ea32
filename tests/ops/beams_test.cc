// choose_beams and reorder_beams, on every level: against another way to say what they do.
#include "ops/beams.h"

#include "ops/beams_problem.h"
#include "ops/harness.h"

namespace ft::test {

TEST(the_best_continuations_go_on) {
  for (int trial = 0; trial < 200; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    beams_problem p(d);
    for (auto& m : machines()) {
      std::vector<beam_choice> next(p.row.size());
      ops::choose_beams(m->ex, p.choose(next.data()));
      for (size_t g = 0; g + 1 < p.offsets.size(); ++g) {
        std::vector<beam_choice> left;  // all that could go on
        const int32_t begin = p.offsets[g], end = p.offsets[g + 1];
        for (int32_t beam = begin; beam < end; ++beam)
          for (int64_t j = 0; j < p.k; ++j)
            if (const beam_choice c = p.continuation(beam, j, beam - begin);
                c.score > -INFINITY && !p.stops_with(g, c.token))
              left.push_back(c);
        for (int32_t i = begin; i < end; ++i) {
          const beam_choice got = next[static_cast<size_t>(i)];
          if (left.empty()) {
            CHECK(got.token == 0 && got.parent == 0 && got.score == -INFINITY);
            continue;
          }
          const auto best = std::min_element(left.begin(), left.end(), [](const beam_choice& a, const beam_choice& b) {
            return std::tuple(-a.score, a.parent, a.token) < std::tuple(-b.score, b.parent, b.token);
          });
          CHECK_MSG(got.token == best->token && got.parent == best->parent && got.score == best->score, m->name(),
                    ", trial ", trial);
          left.erase(best);
        }
      }
    }
  }
}

// Two beams on page 7 after three tokens, of which both of the next go on from the second; a third row is no beam.
TEST(beams_that_have_one_parent_get_a_copy_of_its_page) {
  std::vector<int32_t> chosen{99, 5, 1, 0, 6, 1, 0};
  const float scores[] = {-1.5f, -2.5f};
  std::memcpy(&chosen[3], &scores[0], 4), std::memcpy(&chosen[6], &scores[1], 4);
  const std::vector<int32_t> place{1, 4, -1}, first{0, 0, 2}, positions{19, 19, 4}, fresh{30, 31, -1};
  const std::vector<int32_t> table{7, 8, 0, 7, 9, 0, 3, 0, 0};
  for (auto& m : machines()) {
    reordered f(3, 3);
    ops::reorder_beams(m->ex, f.args(chosen, place, first, positions, fresh, table, 16));
    CHECK(f.new_table == (std::vector<int32_t>{7, 9, 0, 7, 31, 0, 3, 0, 0}));
    CHECK(f.slots == (std::vector<int32_t>{9 * 16 + 3, 31 * 16 + 3, 3 * 16 + 4}));
    CHECK(f.tokens == (std::vector<int32_t>{0, 3, 0}));
    CHECK(f.from[1] == 9 && f.to[1] == 31);
    CHECK(f.score == (std::vector<float>{-1.5f, -2.5f, 0}));
  }
}

TEST(beams_that_begin_a_page_have_one_of_their_own) {
  const std::vector<int32_t> chosen{5, 0, 0, 6, 1, 0}, place{0, 3}, first{0, 0}, positions{16, 16}, fresh{30, 31};
  for (auto& m : machines()) {
    reordered f(2, 2);
    ops::reorder_beams(m->ex, f.args(chosen, place, first, positions, fresh, {7, 0, 8, 0}, 16));
    CHECK(f.new_table == (std::vector<int32_t>{7, 30, 8, 31}));
    CHECK(f.slots == (std::vector<int32_t>{30 * 16, 31 * 16}));
    CHECK(f.tokens == (std::vector<int32_t>{0, 0}));
  }
}

}  // namespace ft::test
