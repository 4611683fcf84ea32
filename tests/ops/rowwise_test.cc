// Operations on rows and elements: every level against the reference on drawn shapes, strides and aliasings.
#include "backends/cpu/packed.h"
#include "ops/harness.h"

namespace ft::test {
namespace {

constexpr auto all_activations = {activation_kind::none,      activation_kind::relu, activation_kind::gelu,
                                  activation_kind::gelu_tanh, activation_kind::silu, activation_kind::tanh};

// Rows and widths about vectors' multiples, now and then wide or many enough to be shared among threads.
int64_t some_rows(draw& d) { return d.one_of<int64_t>({1, 1, 2, 3, 7, 33, d.integer(1, 100)}); }
int64_t some_width(draw& d) { return d.one_of<int64_t>({1, 3, 8, 16, 31, 64, 100, 576, 5000, d.integer(1, 700)}); }
int64_t some_gap(draw& d) { return d.one_of<int64_t>({0, 0, 1, 5, 64}); }

std::vector<float> checked(guarded& out) {
  CHECK(out.intact());
  return out.values();
}

}  // namespace

TEST(activation_matches_reference) {
  compare_with_reference("activation", 60, {2e-7, 8e-7}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d);
    const guarded x = guarded({rows, width}, some_gap(d)).fill(d, 3);
    const int64_t gap = some_gap(d);
    const activation_kind kind = d.one_of(all_activations);
    const bool in_place = d.coin();
    return [=](exec& ex) {
      guarded in = x, out({rows, width}, gap);
      ops::activation(ex, {.out = in_place ? in.view() : out.view(), .x = in.view(), .kind = kind});
      CHECK(in.intact());
      return checked(in_place ? in : out);
    };
  });
}

// The error of f(gate), 2e-7, is multiplied by up, which reaches 8.
TEST(gated_activation_matches_reference) {
  compare_with_reference("gated_activation", 60, {1.6e-6, 1e-6}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
    const guarded both = guarded({rows, 2 * width}, some_gap(d)).fill(d, 2);
    const activation_kind kind = d.one_of(all_activations);
    return [=](exec& ex) {
      guarded in = both, out({rows, width}, gap);
      const tensor halves = in.view();
      ops::gated_activation(ex, {.out = out.view(),
                                 .gate = halves.slice(1, 0, width),
                                 .up = halves.slice(1, width, 2 * width),
                                 .kind = kind});
      CHECK(in.intact());
      return checked(out);
    };
  });
}

TEST(add_matches_reference) {
  compare_with_reference("add", 30, {0, 0}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
    const guarded a = guarded({rows, width}, some_gap(d)).fill(d), b = guarded({rows, width}, some_gap(d)).fill(d);
    const int target = static_cast<int>(d.integer(0, 2));
    return [=](exec& ex) {
      guarded in[3] = {a, b, guarded({rows, width}, gap)};
      ops::add(ex, {.out = in[target].view(), .a = in[0].view(), .b = in[1].view()});
      return checked(in[target]);
    };
  });
}

TEST(scale_matches_reference) {
  compare_with_reference("scale", 40, {1e-7, 1e-6}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
    const guarded x = guarded({rows, width}, some_gap(d)).fill(d, 20);
    const float factor = d.normal(), softcap = d.one_of({0.0f, 30.0f, 5.5f});
    return [=](exec& ex) {
      guarded in = x, out({rows, width}, gap);
      ops::scale(ex, {.out = out.view(), .x = in.view(), .scale = factor, .softcap = softcap});
      return checked(out);
    };
  });
}

TEST(gather_rows_matches_reference) {
  compare_with_reference("gather_rows", 30, {0, 0}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
    const guarded x = guarded({rows, width}, some_gap(d)).fill(d);
    std::vector<int32_t> index(static_cast<size_t>(n));
    for (int32_t& i : index) i = static_cast<int32_t>(d.integer(-1, rows - 1));
    return [=](exec& ex) {
      guarded in = x, out({n, width}, gap);
      ops::gather_rows(ex, {.out = out.view(), .x = in.view(), .index = vector_of(index)});
      return checked(out);
    };
  });
}

// Where exp underflows the sum differs by nothing; banned elements stay -infinity, and the row's other ones finite.
TEST(log_softmax_matches_reference) {
  compare_with_reference("log_softmax", 40, {2e-6, 4e-7}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), gap = some_gap(d);
    const guarded x = guarded({rows, width}, some_gap(d)).fill(d, d.one_of({1.0f, 30.0f}));
    const bool in_place = d.coin();
    return [=](exec& ex) {
      guarded in = x, out({rows, width}, gap);
      guarded& target = in_place ? in : out;
      ops::log_softmax(ex, {.out = target.view(), .x = in.view()});
      return checked(target);
    };
  });
}

TEST(log_softmax_keeps_banned_elements_banned) {
  for (auto& m : machines()) {
    std::vector<float> x(100, -INFINITY);
    x[3] = 2, x[99] = 2;
    const tensor view(x.data(), dtype::f32, {1, 100});
    ops::log_softmax(m->ex, {.out = view, .x = view});
    for (size_t i = 0; i < x.size(); ++i)
      CHECK_MSG(i == 3 || i == 99 ? std::fabs(x[i] + std::log(2.0f)) < 1e-6f : x[i] == -INFINITY, m->name());
  }
}

// The bound follows from the sums over `width` terms in f32 by the kernels: about 64 partial sums keep it flat.
TEST(norm_matches_reference) {
  compare_with_reference("norm", 120, {3e-6, 3e-6}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), heads = d.one_of<int64_t>({0, 0, 1, 3});
    const int64_t width = d.one_of<int64_t>({2, 3, 16, 64, 100, 384, 576, 4099});
    const auto make = [=](int64_t gap) {
      return heads ? guarded({rows, heads, width}, gap) : guarded({rows, width}, gap);
    };
    const float offset = d.one_of({0.0f, 0.0f, 3.0f});  // a mean that is large beside the deviation
    guarded x = make(some_gap(d)).fill(d);
    x.each([&](float& v) { v += offset; });
    const guarded residual = make(some_gap(d)).fill(d);
    const std::vector<float> weight = d.normals(width), bias = d.normals(width);
    norm_args args{.epsilon = d.one_of({1e-5f, 1e-12f}), .weight_offset = d.one_of({0.0f, 1.0f})};
    args.kind = d.one_of({norm_kind::layer, norm_kind::rms});
    const bool has_residual = d.coin(), has_bias = d.coin();
    const int64_t sum_to = d.integer(0, 3), out_to = d.integer(0, 2);  // see below
    const int64_t gap = some_gap(d);
    return [=](exec& ex) {
      guarded in = x, other = residual, sum = make(gap), out = make(gap);
      norm_args a = args;
      a.x = in.view();
      if (has_residual) a.residual = other.view();
      guarded* sums[] = {nullptr, &sum, &in, has_residual ? &other : &sum};
      if (sums[sum_to]) a.sum = sums[sum_to]->view();
      guarded* outs[] = {&out, &in, has_residual ? &other : &out};
      guarded* to = outs[out_to] == sums[sum_to] ? &out : outs[out_to];
      a.out = to->view();
      a.weight = weight.data();
      a.bias = has_bias ? bias.data() : nullptr;
      ops::norm(ex, a);
      CHECK(in.intact() && other.intact() && sum.intact());
      std::vector<float> result = checked(*to);
      if (sums[sum_to]) {
        const std::vector<float> s = sums[sum_to]->values();
        result.insert(result.end(), s.begin(), s.end());
      }
      return result;
    };
  });
}

TEST(embedding_of_plain_tables_matches_reference) {
  compare_with_reference("embedding", 40, {1e-7, 2e-7}, [](draw& d) -> problem {
    const int64_t rows = some_rows(d), width = some_width(d), n = some_rows(d), gap = some_gap(d);
    const dtype type = d.one_of({dtype::f32, dtype::f16, dtype::bf16});
    std::vector<float> wide = d.normals(rows * width);
    std::vector<uint16_t> narrow;
    for (float v : wide)
      narrow.push_back(type == dtype::f16 ? cpu::from_float<cpu::f16>(v).bits : cpu::from_float<cpu::bf16>(v).bits);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& i : ids) i = static_cast<int32_t>(d.integer(0, rows - 1));
    std::vector<int32_t> chosen = choose_later(d, rows, ids);
    const guarded before = guarded({n, width}, gap).fill(d);
    const float factor = d.one_of({1.0f, 24.0f});
    const bool accumulate = d.coin();
    return [=](exec& ex) mutable {
      guarded out = before;
      void* table = type == dtype::f32 ? static_cast<void*>(wide.data()) : narrow.data();
      ops::embedding(ex, {.out = out.view(),
                          .ids = vector_of(ids),
                          .chosen = vector_of(chosen),
                          .table = tensor(table, type, {rows, width}),
                          .scale = factor,
                          .accumulate = accumulate});
      return checked(out);
    };
  });
}

TEST(embedding_of_packed_weights_matches_reference) {
  for (auto& m : machines())
    for (dtype type : {dtype::f32, dtype::bf16, dtype::f16}) {
      draw d(static_cast<uint64_t>(type) + 1);
      const int64_t rows = 37, width = 96, n = 50;
      std::vector<float> values = d.normals(rows * width);
      const tensor part(values.data(), dtype::f32, {rows, width});
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < n; ++i) ids.push_back(static_cast<int32_t>(d.integer(0, rows - 1)));
      const auto run = [&](machine& on) {
        const auto packed = cpu::kernels_of(on.level).pack(std::span(&part, 1), type);
        guarded out({n, width}, 3);
        ops::embedding(on.ex, {.out = out.view(), .ids = vector_of(ids), .packed = packed.get()});
        return checked(out);
      };
      expect_close(run(*m), run(reference()), {0, 0}, cat("embedding of packed ", name(type), ", ", m->name()));
    }
}

// Cosines of angles of thousands of radians: the product is rounded to f32 first, so the angle is exact in both.
TEST(rotary_matches_reference) {
  compare_with_reference("rotary", 60, {1e-6, 1e-6}, [](draw& d) -> problem {
    const int64_t tokens = some_rows(d), heads = d.integer(1, 9), head_dim = 2 * d.integer(1, 80);
    const int64_t n = d.coin() ? head_dim / 2 : d.integer(1, head_dim / 2);
    std::vector<int32_t> positions(static_cast<size_t>(tokens));
    for (int32_t& p : positions) p = static_cast<int32_t>(d.integer(0, d.one_of<int64_t>({10, 5000, 131071})));
    std::vector<float> frequency(static_cast<size_t>(n));
    for (size_t i = 0; i < frequency.size(); ++i)
      frequency[i] = std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(n));
    const guarded x = guarded({tokens, heads, head_dim}, some_gap(d)).fill(d);
    const rotary_style style = d.one_of({rotary_style::half, rotary_style::interleaved});
    const float factor = d.one_of({1.0f, 1.2f});
    return [=](exec& ex) {
      guarded turned = x, table({tokens, 2 * n});
      ops::rotary_table(ex, {.table = table.view(),
                             .positions = vector_of(positions),
                             .inverse_frequency = frequency.data(),
                             .attention_factor = factor});
      ops::rotary(ex, {.x = turned.view(), .table = table.view(), .style = style});
      std::vector<float> result = checked(turned), angles = checked(table);
      result.insert(result.end(), angles.begin(), angles.end());
      return result;
    };
  });
}

TEST(pool_matches_reference) {
  compare_with_reference("pool", 60, {1e-6, 1e-6}, [](draw& d) -> problem {
    const int64_t rows = d.integer(1, 9), width = some_width(d), gap = some_gap(d);
    std::vector<int32_t> offsets{0};
    for (int64_t r = 0; r < rows; ++r)
      offsets.push_back(offsets.back() + static_cast<int32_t>(d.one_of<int64_t>({1, 2, 17, d.integer(1, 128)})));
    const guarded x = guarded({offsets.back(), width}, some_gap(d)).fill(d);
    const pool_kind kind = d.one_of({pool_kind::mean, pool_kind::first, pool_kind::last, pool_kind::max});
    const bool normalize = d.coin();
    return [=](exec& ex) {
      guarded in = x, out({rows, width}, gap);
      ops::pool(
          ex,
          {.out = out.view(), .x = in.view(), .row_offsets = vector_of(offsets), .kind = kind, .normalize = normalize});
      return checked(out);
    };
  });
}

TEST(pool_of_zeros_is_zero) {
  const std::vector<int32_t> offsets{0, 2};
  for (auto& m : machines()) {
    guarded x = guarded({2, 20}).fill(0), out({1, 20});
    ops::pool(m->ex, {.out = out.view(), .x = x.view(), .row_offsets = vector_of(offsets), .normalize = true});
    for (float v : out.values()) CHECK_EQ(v, 0);
  }
}

// A row alone, and the same row among others on any number of threads, gives the same bits.
TEST(rows_do_not_depend_on_their_neighbours) {
  draw d(7);
  const int64_t rows = 70, width = 1000;
  const guarded x = guarded({rows, width}).fill(d);
  const std::vector<float> weight = d.normals(width), bias = d.normals(width);
  for (auto& m : machines()) {
    const auto run = [&](const tensor& in) {
      guarded normed({in.shape[0], width}), out({in.shape[0], width});
      ops::norm(m->ex, {.out = normed.view(), .x = in, .weight = weight.data(), .bias = bias.data()});
      ops::activation(m->ex, {.out = out.view(), .x = normed.view(), .kind = activation_kind::gelu});
      return out.values();
    };
    const std::vector<float> all = run(x.view());
    for (int64_t r : {int64_t{0}, int64_t{13}, rows - 1}) {
      const std::vector<float> alone = run(x.view().slice(0, r, r + 1));
      expect_same_bits(alone, {all.begin() + r * width, all.begin() + (r + 1) * width},
                       cat("row ", r, ", ", m->name()));
    }
  }
}

TEST(no_rows_are_no_work) {
  for (auto& m : machines()) {
    const tensor none(nullptr, dtype::f32, {0, 8});
    const std::vector<float> weight(8, 1.0f);
    ops::activation(m->ex, {.out = none, .x = none, .kind = activation_kind::silu});
    ops::norm(m->ex, {.out = none, .x = none, .weight = weight.data()});
    ops::add(m->ex, {.out = none, .a = none, .b = none});
  }
}

}  // namespace ft::test
