// Operations on rows and elements: the GPU against the reference on drawn shapes, dtypes, strides and aliasings.
#include "gpu/compare.h"

namespace ft::test {
namespace {

constexpr auto all_activations = {activation_kind::none,      activation_kind::relu, activation_kind::gelu,
                                  activation_kind::gelu_tanh, activation_kind::silu, activation_kind::tanh};
constexpr auto all_types = {dtype::f32, dtype::f16, dtype::bf16};

// A result is computed in float32 and rounded once: half a unit in the last place, 2^-12 and 2^-9 of the value at its
// largest, and the difference of the reference's own result from the exact one, which decides some ties.
constexpr bound f16_rounding{1e-7, 0x1p-11}, bf16_rounding{1e-7, 0x1p-8};
constexpr bounds exact{{0, 0}, {6e-8, 0x1p-11}, {1e-30, 0x1p-8}};
constexpr bounds activation_bounds{{4e-7, 2e-6}, {2e-6, 0x1p-11 * 1.01}, {2e-6, 0x1p-8 * 1.01}};
constexpr bounds norm_bounds{{4e-6, 4e-6}, {6e-5, 0x1p-10}, {6e-5, 0x1p-7}};
constexpr bounds float_results{{2e-6, 2e-6}, {2e-6, 2e-6}, {2e-6, 2e-6}};

int64_t some_rows(draw& d) { return d.one_of<int64_t>({1, 1, 2, 3, 7, 33, d.integer(1, 100)}); }
int64_t some_width(draw& d) { return d.one_of<int64_t>({1, 3, 8, 16, 31, 64, 100, 576, 768, 5000, d.integer(1, 700)}); }
int64_t some_gap(draw& d) { return d.one_of<int64_t>({0, 0, 1, 5, 8, 64}); }

guarded drawn(draw& d, std::initializer_list<int64_t> shape, dtype type, float deviation = 1) {
  return rounded(guarded(shape, some_gap(d)).fill(d, deviation), type);
}

// The bound of an operation that converts: the output's rounding decides.
const bound& of_output(const bounds& b, dtype out) {
  return out == dtype::f32 ? b.f32 : out == dtype::f16 ? b.f16 : b.bf16;
}

}  // namespace

TEST(activation) {
  compare_with_reference("activation", 60, activation_bounds, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
    const guarded x = drawn(d, {rows, width}, type, 3);
    const activation_kind kind = d.one_of(all_activations);
    const bool in_place = d.coin();
    return [=](place& on) {
      placed &in = on.put(x, type), &out = in_place ? in : on.put(guarded({rows, width}, gap), type);
      ops::activation(on.ex, {.out = out.view(), .x = in.view(), .kind = kind});
      in.values();
      return out.values();
    };
  });
}

TEST(gated_activation) {
  const bounds b{{3e-6, 2e-6}, {1e-5, 0x1p-11 * 1.01}, {1e-5, 0x1p-8 * 1.01}};
  compare_with_reference("gated_activation", 60, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
    const guarded both = drawn(d, {rows, 2 * width}, type, 2);
    const activation_kind kind = d.one_of(all_activations);
    return [=](place& on) {
      placed &in = on.put(both, type), &out = on.put(guarded({rows, width}, gap), type);
      ops::gated_activation(on.ex, {.out = out.view(),
                                    .gate = in.view().slice(1, 0, width),
                                    .up = in.view().slice(1, width, 2 * width),
                                    .kind = kind});
      in.values();
      return out.values();
    };
  });
}

TEST(add) {
  compare_with_reference("add", 40, exact, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), width = some_width(d);
    const guarded a = drawn(d, {rows, width}, type), b = drawn(d, {rows, width}, type);
    const guarded c({rows, width}, some_gap(d));
    const auto target = static_cast<size_t>(d.integer(0, 2));
    return [=](place& on) {
      placed* in[] = {&on.put(a, type), &on.put(b, type), &on.put(c, type)};
      ops::add(on.ex, {.out = in[target]->view(), .a = in[0]->view(), .b = in[1]->view()});
      return in[target]->values();
    };
  });
}

// Operations that convert, from every dtype to every dtype.
TEST(conversions) {
  for (dtype to : all_types) {
    const auto widest = [&](const bounds& b) {
      const bound limit = of_output(b, to);
      return bounds{limit, limit, limit};
    };
    const bounds scaled{{1e-6, 2e-6}, {2e-6, 0x1p-11 * 1.01}, {2e-6, 0x1p-8 * 1.01}};
    compare_with_reference(cat("scale to ", name(to)).c_str(), 20, widest(scaled), [=](draw& d, dtype type) {
      const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
      const guarded x = drawn(d, {rows, width}, type, 20);
      const float factor = d.normal(), softcap = d.one_of({0.0f, 30.0f, 5.5f});
      return [=](place& on) {
        placed &in = on.put(x, type), &out = on.put(guarded({rows, width}, gap), to);
        ops::scale(on.ex, {.out = out.view(), .x = in.view(), .scale = factor, .softcap = softcap});
        return out.values();
      };
    });
    compare_with_reference(cat("activation to ", name(to)).c_str(), 20, widest(activation_bounds),
                           [=](draw& d, dtype type) {
                             const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
                             const guarded x = drawn(d, {rows, width}, type, 3);
                             const activation_kind kind = d.one_of(all_activations);
                             return [=](place& on) {
                               placed &in = on.put(x, type), &out = on.put(guarded({rows, width}, gap), to);
                               ops::activation(on.ex, {.out = out.view(), .x = in.view(), .kind = kind});
                               return out.values();
                             };
                           });
    compare_with_reference(cat("gather_rows to ", name(to)).c_str(), 20, widest(exact), [=](draw& d, dtype type) {
      const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
      const guarded x = drawn(d, {rows, width}, type);
      std::vector<int32_t> index(static_cast<size_t>(n));
      for (int32_t& i : index) i = static_cast<int32_t>(d.integer(-1, rows - 1));
      return [=](place& on) {
        placed &in = on.put(x, type), &out = on.put(guarded({n, width}, gap), to);
        ops::gather_rows(on.ex, {.out = out.view(), .x = in.view(), .index = on.put(index)});
        return out.values();
      };
    });
  }
}

TEST(log_softmax) {
  compare_with_reference("log_softmax", 40, {{6e-6, 4e-7}, {6e-6, 4e-7}, {6e-6, 4e-7}}, [](draw& d, dtype) {
    const int64_t rows = some_rows(d), width = d.one_of<int64_t>({1, 3, 100, 5000, 50257, d.integer(1, 3000)});
    const int64_t gap = some_gap(d);
    guarded x = drawn(d, {rows, width}, dtype::f32, d.one_of({1.0f, 30.0f}));
    const bool in_place = d.coin();
    return [=](place& on) {
      placed &in = on.put(x, dtype::f32), &out = in_place ? in : on.put(guarded({rows, width}, gap), dtype::f32);
      ops::log_softmax(on.ex, {.out = out.view(), .x = in.view()});
      return out.values();
    };
  });
}

TEST(log_softmax_keeps_banned_elements_banned) {
  place on(gpu(), false);
  guarded x = guarded({1, 3000}).fill(-INFINITY);
  int64_t n = 0;
  x.each([&](float& v) { v = n == 3 || n == 2999 ? 2.0f : v, ++n; });
  placed& t = on.put(x, dtype::f32);
  ops::log_softmax(on.ex, {.out = t.view(), .x = t.view()});
  const std::vector<float> values = t.values();
  for (size_t i = 0; i < values.size(); ++i)
    CHECK(i == 3 || i == 2999 ? std::fabs(values[i] + std::log(2.0f)) < 1e-6f : values[i] == -INFINITY);
}

TEST(norm) {
  compare_with_reference("norm", 150, norm_bounds, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), heads = d.one_of<int64_t>({0, 0, 1, 3});
    const int64_t width = d.one_of<int64_t>({2, 3, 16, 64, 100, 128, 384, 576, 768, 1024, 4096, 4099, 8192});
    const auto make = [=](int64_t gap) {
      return heads ? guarded({rows, heads, width}, gap) : guarded({rows, width}, gap);
    };
    const float offset = d.one_of({0.0f, 0.0f, 3.0f});  // a mean that is large beside the deviation
    guarded x = make(some_gap(d)).fill(d);
    // The elements of narrow rows stand apart: a norm divides by their deviation, and with it what rounding did to
    // them.
    const float apart = width < 16 ? 8.0f : 0.0f;
    int64_t i = 0;
    x.each([&](float& v) { v = rounded(v + offset + (i++ % 2 ? apart : -apart), type); });
    const guarded residual = rounded(make(some_gap(d)).fill(d), type);
    const std::vector<float> weight = d.normals(width), bias = d.normals(width);
    norm_args args{.epsilon = d.one_of({1e-5f, 1e-12f}), .weight_offset = d.one_of({0.0f, 1.0f})};
    args.kind = d.one_of({norm_kind::layer, norm_kind::rms});
    const bool has_residual = d.coin(), has_bias = d.coin();
    const int64_t sum_to = d.integer(0, 3), out_to = d.integer(0, 2), gap = some_gap(d);
    return [=](place& on) {
      placed &in = on.put(x, type), &other = on.put(residual, type);
      placed &sum = on.put(make(gap), type), &out = on.put(make(gap), type);
      norm_args a = args;
      a.x = in.view();
      if (has_residual) a.residual = other.view();
      placed* sums[] = {nullptr, &sum, &in, has_residual ? &other : &sum};
      if (sums[sum_to]) a.sum = sums[sum_to]->view();
      placed* outs[] = {&out, &in, has_residual ? &other : &out};
      placed* to = outs[out_to] == sums[sum_to] ? &out : outs[out_to];
      a.out = to->view();
      a.weight = on.put(weight);
      a.bias = has_bias ? on.put(bias) : nullptr;
      ops::norm(on.ex, a);
      in.values(), other.values(), sum.values();
      std::vector<float> result = to->values();
      if (sums[sum_to]) {
        const std::vector<float> s = sums[sum_to]->values();
        result.insert(result.end(), s.begin(), s.end());
      }
      return result;
    };
  });
}

TEST(embedding_of_plain_tables) {
  // Of what is accumulated the terms reach 100 and may cancel.
  const bounds b{{8e-6, 4e-7}, {8e-6, 0x1p-11 * 1.01}, {8e-6, 0x1p-8 * 1.01}};
  compare_with_reference("embedding", 60, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
    const dtype stored = d.one_of(all_types);
    const guarded table = drawn(d, {rows, width}, stored);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& i : ids) i = static_cast<int32_t>(d.integer(0, rows - 1));
    const std::vector<int32_t> chosen = choose_later(d, rows, ids);
    const guarded before = rounded(guarded({n, width}, gap).fill(d), type);
    const float factor = d.one_of({1.0f, 24.0f});
    const bool accumulate = d.coin();
    return [=](place& on) {
      placed& out = on.put(before, type);
      ops::embedding(on.ex, {.out = out.view(),
                             .ids = on.put(ids),
                             .chosen = on.put(chosen),
                             .table = on.put(table, stored).view(),
                             .scale = factor,
                             .accumulate = accumulate});
      return out.values();
    };
  });
}

// One to three tables, packed or plain, with and without a norm, in rows from short to wider than a block takes.
TEST(embedding_sum) {
  const bounds b{{2e-5, 4e-6}, {8e-3, 0x1p-9}, {6e-2, 0x1p-6}};
  compare_with_reference("embedding_sum", 60, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t width = d.one_of<int64_t>({8, 64, 768, 1024, 4096, 8192, 8200, 1000, 33, d.integer(1, 300)});
    const int64_t n = d.integer(1, 40), count = d.integer(1, 3);
    struct table {
      guarded values;
      dtype stored;
      std::vector<int32_t> ids, chosen;
    };
    std::vector<table> tables;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t rows = d.integer(1, 50);
      const dtype stored = d.one_of(all_types);
      table t{drawn(d, {rows, width}, stored), stored, std::vector<int32_t>(static_cast<size_t>(n)), {}};
      for (int32_t& id : t.ids) id = static_cast<int32_t>(d.integer(0, rows - 1));
      if (i == 0) t.chosen = choose_later(d, rows, t.ids);
      tables.push_back(t);
    }
    norm_args norm{.epsilon = 1e-5f, .weight_offset = d.one_of({0.0f, 1.0f})};
    norm.kind = d.coin() ? norm_kind::layer : norm_kind::rms;
    const bool has_norm = d.coin(), has_bias = d.coin();
    const std::vector<float> weight = d.normals(width), bias = d.normals(width);
    const float scale = d.one_of({1.0f, 3.0f});
    const int64_t gap = d.one_of<int64_t>({0, 8, 3});
    return [=](place& on) {
      placed& out = on.put(guarded({n, width}, gap), type);
      embedding_sum_args a{.out = out.view()};
      for (size_t i = 0; i < tables.size(); ++i) {
        const table& t = tables[i];
        a.lookups[i] = {.ids = on.put(t.ids), .table = on.put(t.values, t.stored).view()};
        if (!t.chosen.empty()) a.lookups[i].chosen = on.put(t.chosen);
      }
      a.lookups[0].scale = scale;
      a.norm = norm;
      if (has_norm) a.norm.weight = on.put(weight);
      if (has_norm && has_bias) a.norm.bias = on.put(bias);
      ops::embedding_sum(on.ex, a);
      return out.values();
    };
  });
}

TEST(rotary_table) {
  compare_with_reference("rotary_table", 30, float_results, [](draw& d, dtype) -> placed_problem {
    const int64_t tokens = some_rows(d), n = d.integer(1, 64);
    std::vector<int32_t> positions(static_cast<size_t>(tokens));
    for (int32_t& p : positions) p = static_cast<int32_t>(d.integer(0, d.one_of<int64_t>({10, 5000, 131071, 1000000})));
    std::vector<float> frequency(static_cast<size_t>(n));
    for (size_t i = 0; i < frequency.size(); ++i)
      frequency[i] = std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(n));
    const float factor = d.one_of({1.0f, 1.2f});
    return [=](place& on) {
      placed& table = on.put(guarded({tokens, 2 * n}), dtype::f32);
      ops::rotary_table(on.ex, {.table = table.view(),
                                .positions = on.put(positions),
                                .inverse_frequency = on.put(frequency),
                                .attention_factor = factor});
      return table.values();
    };
  });
}

TEST(rotary) {
  const bounds b{{1e-6, 1e-6}, {1e-6, 0x1p-11 * 1.01}, {1e-6, 0x1p-8 * 1.01}};
  compare_with_reference("rotary", 80, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t tokens = some_rows(d), heads = d.integer(1, 9);
    const int64_t head_dim = d.one_of<int64_t>({64, 80, 128, 2 * d.integer(1, 80)});
    const int64_t half = head_dim / 2;  // all pairs, or some, or some in whole vectors
    const int64_t n = d.coin() ? half : d.one_of<int64_t>({d.integer(1, half), std::min(half, (half + 15) / 16 * 8)});
    const guarded x = drawn(d, {tokens, heads, head_dim}, type), table = guarded({tokens, 2 * n}).fill(d);
    const rotary_style style = d.one_of({rotary_style::half, rotary_style::interleaved});
    return [=](place& on) {
      placed& turned = on.put(x, type);
      ops::rotary(on.ex, {.x = turned.view(), .table = on.put(table, dtype::f32).view(), .style = style});
      return turned.values();
    };
  });
}

TEST(pool) {
  compare_with_reference("pool", 60, float_results, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = d.integer(1, 9), width = some_width(d), gap = some_gap(d);
    std::vector<int32_t> offsets{0};
    for (int64_t r = 0; r < rows; ++r)
      offsets.push_back(offsets.back() + static_cast<int32_t>(d.one_of<int64_t>({1, 2, 17, d.integer(1, 128)})));
    const guarded x = drawn(d, {offsets.back(), width}, type);
    const pool_kind kind = d.one_of({pool_kind::mean, pool_kind::first, pool_kind::last, pool_kind::max});
    const bool normalize = d.coin();
    return [=](place& on) {
      placed &in = on.put(x, type), &out = on.put(guarded({rows, width}, gap), dtype::f32);
      ops::pool(
          on.ex,
          {.out = out.view(), .x = in.view(), .row_offsets = on.put(offsets), .kind = kind, .normalize = normalize});
      return out.values();
    };
  });
}

TEST(no_rows_are_no_work) {
  for (dtype type : all_types) {
    const tensor none(nullptr, type, {0, 8}), no_floats(nullptr, dtype::f32, {0, 8});
    const tensor no_heads(nullptr, type, {0, 2, 8}), no_integers(nullptr, dtype::i32, {0});
    place on(gpu(), false);
    const float* weight = on.put(std::vector<float>(8, 1.0f));
    ops::activation(on.ex, {.out = none, .x = none, .kind = activation_kind::silu});
    ops::gated_activation(on.ex, {.out = none, .gate = none, .up = none});
    ops::norm(on.ex, {.out = none, .x = none, .weight = weight});
    ops::add(on.ex, {.out = none, .a = none, .b = none});
    ops::scale(on.ex, {.out = none, .x = none});
    ops::gather_rows(on.ex, {.out = none, .x = none, .index = no_integers});
    ops::log_softmax(on.ex, {.out = no_floats, .x = no_floats});
    ops::rotary(on.ex, {.x = no_heads, .table = no_floats});
  }
}

}  // namespace ft::test
