// top_k: every level against the reference, with equal elements, NaNs and short rows, and against log_softmax.
#include "ops/top_k.h"

#include "ops/choice_problem.h"

namespace ft::test {

TEST(top_k_matches_reference) {
  for (int trial = 0; trial < 60; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    const int64_t rows = d.integer(1, 5), width = d.one_of<int64_t>({1, 7, 300, 5000, d.integer(1, 3000)});
    const int64_t k = d.one_of<int64_t>({1, 2, 8, 64, 256, d.integer(1, 256)});
    const guarded x = some_row(d, rows, width);
    place before(reference().ex, true);
    const found want = top_k_of(before, x, k);
    for (auto& m : machines()) {
      place on(m->ex, true);
      expect_same_top_k(top_k_of(on, x, k), want, 6e-6f, cat(m->name(), ", trial ", trial));
    }
  }
}

TEST(top_k_gives_the_log_probabilities_of_log_softmax) {
  for (int trial = 0; trial < 20; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    const int64_t width = d.integer(1, 3000), k = std::min<int64_t>(width, d.integer(1, 40));
    guarded in({1, width});
    in.fill(d, 4);
    for (auto& m : machines()) {
      place on(m->ex, true);
      const found top = top_k_of(on, in, k);
      guarded all = in;
      ops::log_softmax(m->ex, {.out = all.view(), .x = all.view()});
      std::vector<float> got, want;
      for (size_t j = 0; j < static_cast<size_t>(k); ++j) {
        got.push_back(top.value[j] - top.value[0] - top.log_sum[0]);
        want.push_back(all.values()[static_cast<size_t>(top.index[j])]);
      }
      expect_same_bits(got, want, m->name());
    }
  }
}

TEST(top_k_of_nothing_is_no_index) {
  guarded in({1, 300});
  in.fill(nan);
  in.view().as<float>()[4] = -infinity;
  in.view().as<float>()[200] = -3;
  for (auto& m : machines()) {
    place on(m->ex, true);
    const found f = top_k_of(on, in, 4);
    CHECK_MSG((f.index == std::vector<int32_t>{200, 4, -1, -1}), m->name());
    CHECK_MSG((f.value == std::vector<float>{-3, -infinity, -infinity, -infinity}), m->name());
    CHECK_MSG(std::isnan(f.log_sum[0]), m->name());
  }
}

}  // namespace ft::test
