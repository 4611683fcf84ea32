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

double uniform(draw& d) { return static_cast<double>(d.integer(0, (int64_t{1} << 53) - 1)) * 0x1p-53; }

// Whether `token` is where the draw falls, give or take what float32 sums may be off by.
void expect_drawn(const std::vector<float>& row, float t, double uniform, int32_t token, float log_prob,
                  const std::string& what) {
  double highest = -infinity, total = 0, before = 0;
  for (float x : row) highest = x > highest ? x : highest;
  const auto weight = [&](float x) { return x > -infinity ? std::exp((x - highest) / t) : 0; };
  if (highest == -infinity) {
    const auto first = std::find(row.begin(), row.end(), -infinity);
    CHECK_EQ(token, first == row.end() ? -1 : static_cast<int32_t>(first - row.begin()));
    return;
  }
  for (float x : row) total += weight(x);
  CHECK_MSG(token >= 0 && token < static_cast<int32_t>(row.size()), what, ": token ", token);
  for (int32_t i = 0; i < token; ++i) before += weight(row[static_cast<size_t>(i)]);
  const double mine = weight(row[static_cast<size_t>(token)]), at = uniform * total, slack = 4e-6 * total;
  CHECK_MSG(mine > 0 && before <= at + slack && before + mine >= at - slack, what, ": token ", token);
  CHECK_MSG(std::fabs(log_prob - std::log(mine / total)) < 2e-5, what, ": log_prob ", log_prob);
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

TEST(top_k_sums_at_each_row_s_temperature) {
  for (int i = 0; i < 10; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.integer(1, 9), width = d.integer(1, 60000);
    const guarded x = guarded({rows, width}).fill(d, 4);
    std::vector<float> temperatures;
    for (int64_t r = 0; r < rows; ++r) temperatures.push_back(d.one_of({1.0f, 0.3f, 2.5f}));
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      const tensor value = unset(on, dtype::f32, {rows, 1}), index = unset(on, dtype::i32, {rows, 1});
      const tensor log_sum = unset(on, dtype::f32, {rows});
      const tensor t(const_cast<float*>(on.put(temperatures)), dtype::f32, {rows});
      ops::top_k(
          on.ex,
          {.value = value, .index = index, .log_sum = log_sum, .x = on.put(x, dtype::f32).view(), .temperature = t});
      on.ex.scratch.reset();
      return floats_of(on, log_sum);
    };
    expect_close(of(gpu(), false), of(reference().ex, true), {4e-6, 1e-6}, cat("log_sum, draw ", i));
  }
}

TEST(edit_logits) {
  for (int i = 0; i < 20; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.integer(1, 9), width = d.integer(1, 5000);
    const guarded x = guarded({rows, width}, d.one_of<int64_t>({0, 5})).fill(d, 4);
    std::vector<int32_t> edits;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t token = d.integer(0, 9); token < width; token += d.integer(1, 30)) {
        const bool none = d.integer(0, 9) == 0;
        edits.insert(edits.end(), {static_cast<int32_t>(none ? -1 : r), static_cast<int32_t>(token),
                                   static_cast<int32_t>(d.integer(-1, 9))});
      }
    std::vector<float> penalties;
    for (int64_t r = 0; r < rows; ++r) penalties.insert(penalties.end(), {1.3f, d.normal(), d.normal()});
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      placed& in = on.put(x, dtype::f32);
      const auto n = static_cast<int64_t>(edits.size() / 3);
      ops::edit_logits(on.ex, {.x = in.view(),
                               .edits = on.put(edits).reshape({n, 3}),
                               .penalties = tensor(const_cast<float*>(on.put(penalties)), dtype::f32, {rows, 3})});
      return in.values();
    };
    expect_same_bits(of(gpu(), false), of(reference().ex, true), cat("draw ", i));
  }
}

TEST(sample) {
  for (int i = 0; i < 80; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.one_of<int64_t>({1, 1, 2, 33});
    const int64_t width = d.one_of<int64_t>({1, 8, 2048, 2049, 50400, 128256, 262144, d.integer(1, 9000)});
    guarded x = some_row(d, rows, width);
    std::vector<float> temperatures;
    std::vector<double> uniforms;
    for (int64_t r = 0; r < rows; ++r) {
      temperatures.push_back(d.one_of({1.0f, 0.7f, 2.0f}));
      uniforms.push_back(d.one_of({0.0, 1 - 0x1p-53, uniform(d), uniform(d), uniform(d)}));
    }
    place on(gpu(), false);
    const tensor token = unset(on, dtype::i32, {rows}), log_prob = unset(on, dtype::f32, {rows});
    ops::sample(on.ex, {.token = token,
                        .log_prob = log_prob,
                        .x = on.put(x, dtype::f32).view(),
                        .uniform = tensor(on.copy(uniforms.data(), uniforms.size() * 8), dtype::f64, {rows}),
                        .temperature = tensor(const_cast<float*>(on.put(temperatures)), dtype::f32, {rows})});
    on.ex.scratch.reset();
    const std::vector<int32_t> tokens = integers_of(on, token);
    const std::vector<float> log_probs = floats_of(on, log_prob), values = x.values();
    for (size_t r = 0; r < tokens.size(); ++r) {
      const auto begin = values.begin() + static_cast<int64_t>(r) * width;
      expect_drawn({begin, begin + width}, temperatures[r], uniforms[r], tokens[r], log_probs[r],
                   cat("draw ", i, ", ", rows, " x ", width, ", row ", r));
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
