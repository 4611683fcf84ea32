// argmax: the first of the largest, on every level; NaNs are no candidates.
#include "ops/argmax.h"

#include "ops/choice_problem.h"

namespace ft::test {

TEST(argmax_is_the_first_of_the_largest) {
  for (int trial = 0; trial < 30; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    const int64_t rows = d.integer(1, 5), width = d.integer(1, 300);
    guarded in({rows, width}, d.integer(0, 3));
    in.fill(d);
    std::vector<int32_t> expected;
    for (int64_t r = 0; r < rows; ++r) {
      float* row = in.view().as<float>() + r * in.view().stride[0];
      const int64_t first = d.integer(0, width - 1);
      row[first] = 50;
      row[d.integer(first, width - 1)] = 50;
      if (first > 0) row[d.integer(0, first - 1)] = nan;
      expected.push_back(static_cast<int32_t>(first));
    }
    for (auto& m : machines()) {
      place on(m->ex, true);
      CHECK_MSG(argmax_of(on, in) == expected, m->name(), ", trial ", trial);
    }
  }
}

TEST(argmax_of_nothing_is_no_index) {
  guarded in({2, 9});
  in.fill(nan);
  in.view().as<float>()[9 + 4] = -infinity;
  for (auto& m : machines()) {
    place on(m->ex, true);
    CHECK_MSG((argmax_of(on, in) == std::vector<int32_t>{-1, 4}), m->name());
  }
}

}  // namespace ft::test
