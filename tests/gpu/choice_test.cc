// Operations that choose among a row's elements: the GPU against the reference, with equal elements, NaNs, rows shorter
// and longer than what a block takes, and neighbours that change nothing.
#include "gpu/compare.h"
#include "ops/choice_problem.h"

namespace ft::test {
namespace {

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

}  // namespace

TEST(argmax) {
  for (int i = 0; i < 60; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.integer(1, 40), width = d.one_of<int64_t>({1, 8, 31, 5000, 50257, d.integer(1, 700)});
    const guarded x = some_row(d, rows, width);
    place on_cpu(reference().ex, true), on_gpu(gpu(), false);
    CHECK_MSG(argmax_of(on_gpu, x) == argmax_of(on_cpu, x), "draw ", i);
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
    expect_same_top_k(top_k_of(on_gpu, x, k), top_k_of(on_cpu, x, k), 4e-6f,
                      cat("draw ", i, ": ", rows, " x ", width, ", k ", k));
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
  for (int i = 0; i < 40; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.integer(1, 9), width = d.integer(1, 5000);
    const guarded x = guarded({rows, width}, d.one_of<int64_t>({0, 5})).fill(d, 4);
    std::vector<int32_t> edits, chosen, late;
    const bool with_late = d.coin();
    for (int64_t r = 0; r < rows; ++r) {
      std::vector<int32_t> tokens{-1, static_cast<int32_t>(d.integer(0, width - 1))};
      for (int64_t token = d.integer(0, 9); token < width; token += d.integer(1, 30)) {
        const bool none = d.integer(0, 9) == 0;
        edits.insert(edits.end(), {static_cast<int32_t>(none ? -1 : r), static_cast<int32_t>(token),
                                   static_cast<int32_t>(d.integer(-1, 9))});
        tokens.push_back(static_cast<int32_t>(token));
      }
      chosen.push_back(tokens[static_cast<size_t>(d.integer(0, std::ssize(tokens) - 1))]);
      late.insert(late.end(), {static_cast<int32_t>(d.integer(0, 3) ? r : -1), static_cast<int32_t>(d.integer(1, 3))});
    }
    std::vector<float> penalties;
    for (int64_t r = 0; r < rows; ++r) penalties.insert(penalties.end(), {1.3f, d.normal(), d.normal()});
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      placed& in = on.put(x, dtype::f32);
      const auto n = static_cast<int64_t>(edits.size() / 3);
      ops::edit_logits(on.ex, {.x = in.view(),
                               .edits = on.put(edits).reshape({n, 3}),
                               .penalties = tensor(const_cast<float*>(on.put(penalties)), dtype::f32, {rows, 3}),
                               .chosen = with_late ? on.put(chosen) : tensor(),
                               .late = with_late ? on.put(late).reshape({rows, 2}) : tensor()});
      on.ex.scratch.reset();
      return in.values();
    };
    expect_same_bits(of(gpu(), false), of(reference().ex, true), cat("draw ", i));
  }
}

// What is left is the same but where a sum or a weight lies within rounding of its bound.
TEST(sampling_threshold) {
  for (int i = 0; i < 120; ++i) {
    draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
    const int64_t rows = d.one_of<int64_t>({1, 1, 3, 9}), k = d.one_of<int64_t>({8, 128, 256});
    const int64_t width = d.one_of<int64_t>({1, 8, 300, 2049, 50400, 128256, d.integer(1, 9000)});
    const guarded x = d.coin() ? some_row(d, rows, width) : guarded({rows, width}).fill(d, d.one_of({0.1f, 1.f, 6.f}));
    std::vector<float> temperatures;
    std::vector<double> by;
    for (int64_t r = 0; r < rows; ++r) {
      temperatures.push_back(d.one_of({1.0f, 0.7f, 2.0f}));
      by.push_back(static_cast<double>(d.coin() ? 0 : d.one_of<int64_t>({1, 5, 50, 300, 100000})));
      by.push_back(d.coin() ? 1 : d.one_of({0.1, 0.5, 0.95}));
      by.push_back(d.coin() ? 0 : d.one_of({0.001, 0.1, 1.0}));
    }
    const auto of = [&](exec& ex, bool is_reference) {
      place on(ex, is_reference);
      const tensor in = on.put(x, dtype::f32).view();
      const tensor value = unset(on, dtype::f32, {rows, k}), index = unset(on, dtype::i32, {rows, k});
      const tensor log_sum = unset(on, dtype::f32, {rows}), least = unset(on, dtype::f32, {rows});
      const tensor last = unset(on, dtype::i32, {rows});
      const tensor t(const_cast<float*>(on.put(temperatures)), dtype::f32, {rows});
      ops::top_k(on.ex, {.value = value, .index = index, .log_sum = log_sum, .x = in, .temperature = t});
      ops::sampling_threshold(on.ex, {.least = least,
                                      .last = last,
                                      .x = in,
                                      .value = value,
                                      .index = index,
                                      .log_sum = log_sum,
                                      .temperature = t,
                                      .by = tensor(on.copy(by.data(), by.size() * 8), dtype::f64, {rows, 3})});
      on.ex.scratch.reset();
      return std::pair(floats_of(on, least), integers_of(on, last));
    };
    const auto got = of(gpu(), false), want = of(reference().ex, true);
    std::vector<float> values = guarded(x).values();
    for (size_t r = 0; r < static_cast<size_t>(rows); ++r) {
      if (got.first[r] == want.first[r] && got.second[r] == want.second[r]) continue;
      const std::string what = cat("draw ", i, ", row ", r, ": ", got.first[r], " and ", got.second[r], ", not ",
                                   want.first[r], " and ", want.second[r]);
      double highest = -infinity;
      for (int64_t c = 0; c < width; ++c) highest = std::max<double>(highest, values[r * width + c] / temperatures[r]);
      if (highest == -infinity) continue;
      const double top_k = by[3 * r], top_p = by[3 * r + 1], min_p = by[3 * r + 2];
      std::vector<float> all;
      for (int64_t c = 0; c < width; ++c)
        if (const float l = values[r * width + c] / temperatures[r]; l > -infinity) all.push_back(l);
      std::ranges::sort(all, std::greater<>());
      const float kth =
          top_k > 0 && top_k < static_cast<double>(all.size()) ? all[static_cast<size_t>(top_k) - 1] : all.back();
      const auto left_by = [&](const auto& bounds) {
        std::pair<double, double> mass{0, 0};  // of what is left, and all that top-k leaves
        for (int64_t c = 0; c < width; ++c) {
          const float l = values[r * width + c] / temperatures[r];
          if (!(l >= kth)) continue;
          const double w = std::exp(l - highest);
          mass.second += w;
          if (l > bounds.first[r] || (l == bounds.first[r] && c <= bounds.second[r])) mass.first += w;
        }
        return mass.first / mass.second;
      };
      const double fewer = std::min(left_by(got), left_by(want));
      const double weight = std::exp(std::min(got.first[r], want.first[r]) - highest);
      CHECK_MSG(std::fabs(fewer - top_p) < 1e-5 || std::fabs(weight / min_p - 1) < 1e-5, what);
    }
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
    const bool is_cut = d.coin();
    const std::vector<float> values = x.values();
    std::vector<float> least;
    std::vector<int32_t> last;
    for (int64_t r = 0; r < rows; ++r) {
      const auto at = static_cast<int32_t>(d.integer(0, width - 1));
      least.push_back(values[static_cast<size_t>(r * width + at)] / temperatures[static_cast<size_t>(r)]);
      last.push_back(at);
    }
    place on(gpu(), false);
    const tensor token = unset(on, dtype::i32, {rows}), log_prob = unset(on, dtype::f32, {rows});
    const tensor logit = unset(on, dtype::f32, {rows});
    ops::sample(on.ex, {.token = token,
                        .log_prob = log_prob,
                        .logit = logit,
                        .x = on.put(x, dtype::f32).view(),
                        .uniform = tensor(on.copy(uniforms.data(), uniforms.size() * 8), dtype::f64, {rows}),
                        .temperature = tensor(const_cast<float*>(on.put(temperatures)), dtype::f32, {rows}),
                        .least = is_cut ? tensor(const_cast<float*>(on.put(least)), dtype::f32, {rows}) : tensor(),
                        .last = is_cut ? on.put(last) : tensor()});
    on.ex.scratch.reset();
    const std::vector<int32_t> tokens = integers_of(on, token);
    const std::vector<float> log_probs = floats_of(on, log_prob), logits = floats_of(on, logit);
    for (size_t r = 0; r < tokens.size(); ++r) {
      const auto begin = values.begin() + static_cast<int64_t>(r) * width;
      std::vector<float> row(begin, begin + width);
      if (is_cut && !(least[r] > -infinity)) continue;  // what is cut by such a bound may be anything
      for (int64_t c = 0; is_cut && c < width; ++c) {
        const float l = row[static_cast<size_t>(c)] / temperatures[r];
        if (!(l > least[r] || (l == least[r] && c <= last[r]))) row[static_cast<size_t>(c)] = nan;
      }
      if (tokens[r] >= 0) CHECK_EQ(logits[r], row[static_cast<size_t>(tokens[r])]);
      expect_drawn(row, temperatures[r], uniforms[r], tokens[r], log_probs[r],
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
