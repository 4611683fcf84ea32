// Operations that choose among a row's elements: the GPU against the reference, with equal elements, NaNs, rows shorter
// and longer than what a block takes, and neighbours that change nothing.
#include <limits>

#include "gpu/place.h"

namespace ft::test {
namespace {

constexpr float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> integers_of(place& on, const tensor& t) {
  std::vector<int32_t> v(static_cast<size_t>(t.size()));
  on.ex.download(v.data(), t.data, v.size() * sizeof(int32_t));
  return v;
}

std::vector<float> floats_of(place& on, const tensor& t) {
  std::vector<float> v(static_cast<size_t>(t.size()));
  on.ex.download(v.data(), t.data, v.size() * sizeof(float));
  return v;
}

// Uninitialised results would look like this.
tensor unset(place& on, dtype type, std::initializer_list<int64_t> shape) {
  tensor t(nullptr, type, shape);
  t.data = on.put(std::vector<int32_t>(static_cast<size_t>(t.size()), 0x7fc0dead)).data;
  return t;
}

guarded some_row(draw& d, int64_t rows, int64_t width) {
  guarded x = guarded({rows, width}, d.one_of<int64_t>({0, 0, 3, 8})).fill(d, 4);
  if (d.coin()) x.each([&](float& v) { v = std::round(v); });  // many equal ones
  if (d.integer(0, 3) == 0) x.each([&](float& v) { v = d.coin() ? -infinity : v; });
  if (d.integer(0, 3) == 0) x.each([&](float& v) { v = d.coin() ? nan : v; });
  if (d.integer(0, 7) == 0) x.fill(d.one_of({0.0f, -0.0f, -infinity, nan}));
  return x;
}

struct found {
  std::vector<float> value, log_sum;
  std::vector<int32_t> index;
};

found top_k_of(place& on, const guarded& x, int64_t k) {
  const tensor in = on.put(x, dtype::f32).view();
  const tensor value = unset(on, dtype::f32, {in.dim(0), k}), index = unset(on, dtype::i32, {in.dim(0), k});
  const tensor log_sum = unset(on, dtype::f32, {in.dim(0)});
  ops::top_k(on.ex, {.value = value, .index = index, .log_sum = log_sum, .x = in});
  on.ex.scratch.reset();
  return {floats_of(on, value), floats_of(on, log_sum), integers_of(on, index)};
}

}  // namespace

TEST(argmax) {
  for (int i = 0; i < 60; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.integer(1, 40), width = d.one_of<int64_t>({1, 8, 31, 5000, 50257, d.integer(1, 700)});
    const guarded x = some_row(d, rows, width);
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      const tensor out = unset(on, dtype::i32, {rows});
      ops::argmax(on.ex, {.out = out, .x = on.put(x, dtype::f32).view()});
      return integers_of(on, out);
    };
    CHECK_MSG(of(gpu(), false) == of(reference().ex, true), "draw ", i);
  }
}

TEST(top_k) {
  for (int i = 0; i < 80; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.one_of<int64_t>({1, 1, 2, 4, 33});
    const int64_t width = d.one_of<int64_t>({1, 8, 31, 2048, 2049, 5000, 50400, 128256, 262144, d.integer(1, 9000)});
    const int64_t k = d.one_of<int64_t>({1, 2, 8, 16, 64, 256, d.integer(1, 256)});
    const guarded x = some_row(d, rows, width);
    place on_cpu(reference().ex, true), on_gpu(gpu(), false);
    const found want = top_k_of(on_cpu, x, k), got = top_k_of(on_gpu, x, k);
    const std::string what = cat("draw ", i, ": ", rows, " x ", width, ", k ", k);
    CHECK_MSG(got.index == want.index && got.value == want.value, what);
    for (size_t r = 0; r < want.log_sum.size(); ++r) {
      if (want.value[r * static_cast<size_t>(k)] == -infinity) continue;  // no number
      const bool as_good = std::isnan(want.log_sum[r]) ? std::isnan(got.log_sum[r])
                                                       : std::fabs(got.log_sum[r] - want.log_sum[r]) <= 4e-6f;
      CHECK_MSG(as_good, what, ": log_sum ", got.log_sum[r], ", not ", want.log_sum[r]);
    }
  }
}

TEST(top_k_depends_on_neither_neighbours_nor_k) {
  for (int i = 0; i < 10; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.integer(2, 9), width = d.integer(1, 60000), k = d.integer(1, 200);
    guarded x = guarded({rows, width}).fill(d, 4);
    const std::vector<float> values = x.values();
    place on(gpu(), false);
    const found all = top_k_of(on, x, 256);
    for (int64_t r = 0; r < rows; ++r) {
      guarded row({1, width});
      auto next = values.begin() + r * width;
      row.each([&](float& v) { v = *next++; });
      const found alone = top_k_of(on, row, k);
      const auto first = all.index.begin() + r * 256;
      CHECK_MSG(std::equal(alone.index.begin(), alone.index.end(), first), "draw ", i);
      expect_same_bits(alone.log_sum, {all.log_sum[static_cast<size_t>(r)]}, cat("log_sum, draw ", i));
    }
  }
}

}  // namespace ft::test
