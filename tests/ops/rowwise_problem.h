// Drawn problems of operations on rows and elements, as the tests on the CPU and on the GPU share them: shapes, strides
// and aliasings.
#pragma once

#include "ops/place.h"

namespace ft::test {

inline constexpr auto all_activations = {activation_kind::none,      activation_kind::relu, activation_kind::gelu,
                                         activation_kind::gelu_tanh, activation_kind::silu, activation_kind::tanh};
inline constexpr auto all_types = {dtype::f32, dtype::f16, dtype::bf16};

// Rows and widths about vectors' multiples, now and then wide or many enough to be shared among threads or blocks.
inline int64_t some_rows(draw& d) { return d.one_of<int64_t>({1, 1, 2, 3, 7, 33, d.integer(1, 100)}); }
inline int64_t some_width(draw& d) {
  return d.one_of<int64_t>({1, 3, 8, 16, 31, 64, 100, 576, 768, 5000, d.integer(1, 700)});
}
inline int64_t some_gap(draw& d) { return d.one_of<int64_t>({0, 0, 1, 5, 8, 64}); }

inline guarded drawn(draw& d, std::initializer_list<int64_t> shape, dtype type, float deviation = 1) {
  return rounded(guarded(shape, some_gap(d)).fill(d, deviation), type);
}

// To a result of another dtype, or of the same, and then in place too.
inline placed_problem activation_problem(draw& d, dtype type, dtype to) {
  const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
  const guarded x = drawn(d, {rows, width}, type, 3);
  const activation_kind kind = d.one_of(all_activations);
  const bool in_place = type == to && d.coin();
  return [=](place& on) {
    placed &in = on.put(x, type), &out = in_place ? in : on.put(guarded({rows, width}, gap), to);
    ops::activation(on.ex, {.out = out.view(), .x = in.view(), .kind = kind});
    in.values();
    return out.values();
  };
}

inline placed_problem gated_activation_problem(draw& d, dtype type) {
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
}

inline placed_problem add_problem(draw& d, dtype type) {
  const int64_t rows = some_rows(d), width = some_width(d);
  const guarded a = drawn(d, {rows, width}, type), b = drawn(d, {rows, width}, type);
  const guarded c({rows, width}, some_gap(d));
  const auto target = static_cast<size_t>(d.integer(0, 2));
  return [=](place& on) {
    placed* in[] = {&on.put(a, type), &on.put(b, type), &on.put(c, type)};
    ops::add(on.ex, {.out = in[target]->view(), .a = in[0]->view(), .b = in[1]->view()});
    return in[target]->values();
  };
}

inline placed_problem scale_problem(draw& d, dtype type, dtype to) {
  const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
  const guarded x = drawn(d, {rows, width}, type, 20);
  const float factor = d.normal(), softcap = d.one_of({0.0f, 30.0f, 5.5f});
  return [=](place& on) {
    placed &in = on.put(x, type), &out = on.put(guarded({rows, width}, gap), to);
    ops::scale(on.ex, {.out = out.view(), .x = in.view(), .scale = factor, .softcap = softcap});
    return out.values();
  };
}

inline placed_problem gather_rows_problem(draw& d, dtype type, dtype to) {
  const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
  const guarded x = drawn(d, {rows, width}, type);
  std::vector<int32_t> index(static_cast<size_t>(n));
  for (int32_t& i : index) i = static_cast<int32_t>(d.integer(-1, rows - 1));
  return [=](place& on) {
    placed &in = on.put(x, type), &out = on.put(guarded({n, width}, gap), to);
    ops::gather_rows(on.ex, {.out = out.view(), .x = in.view(), .index = on.put(index)});
    return out.values();
  };
}

// Where exp underflows the sum differs by nothing.
inline placed_problem log_softmax_problem(draw& d, dtype) {
  const int64_t rows = some_rows(d), width = d.one_of<int64_t>({1, 3, 100, 5000, 50257, d.integer(1, 3000)});
  const int64_t gap = some_gap(d);
  const guarded x = drawn(d, {rows, width}, dtype::f32, d.one_of({1.0f, 30.0f}));
  const bool in_place = d.coin();
  return [=](place& on) {
    placed &in = on.put(x, dtype::f32), &out = in_place ? in : on.put(guarded({rows, width}, gap), dtype::f32);
    ops::log_softmax(on.ex, {.out = out.view(), .x = in.view()});
    return out.values();
  };
}

inline placed_problem norm_problem(draw& d, dtype type) {
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
}

inline placed_problem rotary_table_problem(draw& d, dtype) {
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
}

inline placed_problem rotary_problem(draw& d, dtype type) {
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
}

inline placed_problem pool_problem(draw& d, dtype type) {
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
}

}  // namespace ft::test
