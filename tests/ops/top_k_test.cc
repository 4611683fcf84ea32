// top_k: every level against the reference, with equal elements, NaNs and short rows, and against log_softmax.
#include "ops/top_k.h"

#include <limits>

#include "ops/harness.h"

namespace ft::test {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

struct found {
  std::vector<float> value, log_sum;
  std::vector<int32_t> index;
};

found top_k_of(exec& ex, const tensor& x, int64_t k) {
  const int64_t rows = x.dim(0);
  found f{std::vector<float>(static_cast<size_t>(rows * k), 7), std::vector<float>(static_cast<size_t>(rows), 7),
          std::vector<int32_t>(static_cast<size_t>(rows * k), 7)};
  ops::top_k(ex, {.value = tensor(f.value.data(), dtype::f32, {rows, k}),
                  .index = tensor(f.index.data(), dtype::i32, {rows, k}),
                  .log_sum = tensor(f.log_sum.data(), dtype::f32, {rows}),
                  .x = x});
  return f;
}

}  // namespace

TEST(top_k_matches_reference) {
  for (int trial = 0; trial < 60; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    const int64_t rows = d.integer(1, 5), width = d.one_of<int64_t>({1, 7, 300, 5000, d.integer(1, 3000)});
    const int64_t k = d.one_of<int64_t>({1, 2, 8, 64, 256, d.integer(1, 256)});
    guarded in({rows, width}, d.integer(0, 3));
    in.fill(d, 5);
    if (d.coin()) in.each([&](float& x) { x = std::round(x); });  // many equal ones
    if (d.coin()) in.each([&](float& x) { x = d.integer(0, 9) == 0 ? -infinity : x; });
    const bool with_nans = d.integer(0, 3) == 0;
    if (with_nans) in.each([&](float& x) { x = d.coin() ? nan : x; });
    const found want = top_k_of(reference().ex, in.view(), k);
    for (auto& m : machines()) {
      const found got = top_k_of(m->ex, in.view(), k);
      CHECK_MSG(got.index == want.index && got.value == want.value, m->name(), ", trial ", trial);
      for (size_t r = 0; r < got.log_sum.size(); ++r)
        if (with_nans)
          CHECK_MSG(std::isnan(got.log_sum[r]) == std::isnan(want.log_sum[r]) || want.value[r * k] == -infinity,
                    m->name(), ", trial ", trial);
        else if (want.value[r * static_cast<size_t>(k)] > -infinity)
          CHECK_MSG(std::fabs(got.log_sum[r] - want.log_sum[r]) <= 6e-6f, m->name(), ", trial ", trial);
    }
    CHECK(in.intact());
  }
}

TEST(top_k_gives_the_log_probabilities_of_log_softmax) {
  for (int trial = 0; trial < 20; ++trial) {
    draw d(static_cast<uint64_t>(trial));
    const int64_t width = d.integer(1, 3000), k = std::min<int64_t>(width, d.integer(1, 40));
    guarded in({1, width});
    in.fill(d, 4);
    for (auto& m : machines()) {
      const found top = top_k_of(m->ex, in.view(), k);
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
    const found f = top_k_of(m->ex, in.view(), 4);
    CHECK_MSG((f.index == std::vector<int32_t>{200, 4, -1, -1}), m->name());
    CHECK_MSG((f.value == std::vector<float>{-3, -infinity, -infinity, -infinity}), m->name());
    CHECK_MSG(std::isnan(f.log_sum[0]), m->name());
  }
}

}  // namespace ft::test
