// Drawn rows for the operations that choose among a row's elements, as the tests on the CPU and on the GPU share them:
// equal elements, NaNs, rows shorter and longer than what a block or thread takes.
#pragma once

#include <limits>

#include "ops/argmax.h"
#include "ops/place.h"
#include "ops/top_k.h"

namespace ft::test {

inline constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

inline std::vector<int32_t> integers_of(place& on, const tensor& t) {
  std::vector<int32_t> v(static_cast<size_t>(t.size()));
  on.ex.download(v.data(), t.data, v.size() * sizeof(int32_t));
  return v;
}

inline std::vector<float> floats_of(place& on, const tensor& t) {
  std::vector<float> v(static_cast<size_t>(t.size()));
  on.ex.download(v.data(), t.data, v.size() * sizeof(float));
  return v;
}

// Uninitialised results would look like this.
inline tensor unset(place& on, dtype type, std::initializer_list<int64_t> shape) {
  tensor t(nullptr, type, shape);
  t.data = on.put(std::vector<int32_t>(static_cast<size_t>(t.size()), 0x7fc0dead)).data;
  return t;
}

inline guarded some_row(draw& d, int64_t rows, int64_t width) {
  guarded x = guarded({rows, width}, d.one_of<int64_t>({0, 0, 3, 8})).fill(d, 4);
  if (d.coin()) x.each([&](float& v) { v = std::round(v); });  // many equal ones
  if (d.integer(0, 3) == 0) x.each([&](float& v) { v = d.coin() ? -infinity : v; });
  if (d.integer(0, 3) == 0) x.each([&](float& v) { v = d.coin() ? nan : v; });
  if (d.integer(0, 7) == 0) x.fill(d.one_of({0.0f, -0.0f, -infinity, nan}));
  return x;
}

inline std::vector<int32_t> argmax_of(place& on, const guarded& x) {
  const tensor in = on.put(x, dtype::f32).view(), out = unset(on, dtype::i32, {in.dim(0)});
  ops::argmax(on.ex, {.out = out, .x = in});
  return integers_of(on, out);
}

struct found {
  std::vector<float> value, log_sum;
  std::vector<int32_t> index;
};

inline found top_k_of(place& on, const guarded& x, int64_t k) {
  const tensor in = on.put(x, dtype::f32).view();
  const tensor value = unset(on, dtype::f32, {in.dim(0), k}), index = unset(on, dtype::i32, {in.dim(0), k});
  const tensor log_sum = unset(on, dtype::f32, {in.dim(0)});
  ops::top_k(on.ex, {.value = value, .index = index, .log_sum = log_sum, .x = in});
  on.ex.scratch.reset();
  return {floats_of(on, value), floats_of(on, log_sum), integers_of(on, index)};
}

// The same elements, and sums within `slack`; a row of nothing has no sum.
inline void expect_same_top_k(const found& got, const found& want, float slack, const std::string& what) {
  CHECK_MSG(got.index == want.index && got.value == want.value, what);
  const size_t k = want.value.size() / std::max<size_t>(want.log_sum.size(), 1);
  for (size_t r = 0; r < want.log_sum.size(); ++r) {
    if (want.value[r * k] == -infinity) continue;
    const bool as_good =
        std::isnan(want.log_sum[r]) ? std::isnan(got.log_sum[r]) : std::fabs(got.log_sum[r] - want.log_sum[r]) <= slack;
    CHECK_MSG(as_good, what, ": log_sum ", got.log_sum[r], ", not ", want.log_sum[r]);
  }
}

}  // namespace ft::test
