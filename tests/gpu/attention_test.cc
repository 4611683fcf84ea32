// Attention and the paged cache: the GPU against the reference on drawn shapes, dtypes and cuts of rows into steps, and
// what a row's result must not depend on.
#include "gpu/attention_bounds.h"
#include "ops/attention_problem.h"

namespace ft::test {

TEST(attention) {
  compare_with_reference("attention", 60, attention_bounds, [](draw& d, dtype type) -> placed_problem {
    const shape s = some_shape(d);
    const sequences all(d, s, some_lengths(d, d.integer(1, 5)), type);
    const drawn_options options = some_options(d, s, all.longest());
    const bool causal = d.coin();
    return [=](place& on) { return run_whole(on, all, causal, options.on(on)); };
  });
}

TEST(paged_attention) {
  compare_with_reference("paged_attention", 60, attention_bounds, [](draw& d, dtype type) -> placed_problem {
    const shape s = some_shape(d);
    const sequences all(d, s, some_lengths(d, d.integer(1, 5)), type);
    const drawn_options options = some_options(d, s, all.longest());
    const dtype page_type = some_page_type(d, type);
    const int64_t page_tokens = d.one_of<int64_t>({16, 16, 16, 32, 64, 10});
    const int64_t more_pages = d.one_of<int64_t>({0, 0, 3, 1000});
    const uint64_t seed = static_cast<uint64_t>(d.integer(0, 1000));
    return [=](place& on) {
      draw cut(seed);
      return run_paged(on, all, page_type, page_tokens, more_pages, options.on(on), [&] {
        return static_cast<int32_t>(cut.one_of<int64_t>({0, 1, 1, cut.integer(1, 40), cut.integer(1, 200)}));
      });
    };
  });
}

TEST(cross_attention) {
  compare_with_reference("cross-attention", 30, attention_bounds, [](draw& d, dtype type) -> placed_problem {
    const two_sequences both(d, some_shape(d), type);
    const dtype page_type = some_page_type(d, type);
    const int64_t page_tokens = d.one_of<int64_t>({16, 32, 10});
    const int32_t step = d.one_of({1, 20, 1000});
    return [=](place& on) {
      std::vector<float> out = run_cross(on, both);
      const std::vector<float> paged = run_paged_cross(on, both, page_type, page_tokens, step);
      out.insert(out.end(), paged.begin(), paged.end());
      return out;
    };
  });
}

TEST(prompts_do_not_depend_on_their_neighbours) {
  draw d(run_seed());
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16})
    for (int64_t head_dim : {32, 64, 80, 96, 128, 256}) {
      const shape s{16, 4, head_dim};
      std::vector<int32_t> lengths;
      for (int i = 0; i < 24; ++i) lengths.push_back(static_cast<int32_t>(d.integer(100, 300)));
      const sequences all(d, s, lengths, type);
      const drawn_options options = some_options(d, s, all.longest());
      const bool causal = d.coin();
      place on(gpu(), false);
      const std::vector<float> together = run_whole(on, all, causal, options.on(on));
      for (size_t r : {size_t{0}, size_t{7}, lengths.size() - 1}) {
        sequences alone = all;
        alone.lengths = {lengths[r]};
        alone.offsets = {0, lengths[r]};
        const std::vector<part> row{{static_cast<int32_t>(r), 0, lengths[r]}};
        alone.query = rows_of(all.query, all, row, all.aligned ? 0 : 3);
        alone.key = rows_of(all.key, all, row, all.aligned ? 8 : 1);
        alone.value = rows_of(all.value, all, row, all.aligned ? 0 : 5);
        expect_same_bits(
            run_whole(on, alone, causal, options.on(on)),
            {together.begin() + all.offsets[r] * all.width(), together.begin() + all.offsets[r + 1] * all.width()},
            cat("row ", r, " of heads of ", head_dim, " in ", name(type)));
      }
    }
}

TEST(rotary_kv_write) {
  compare_with_reference("rotary_kv_write", 60, attention_bounds, [](draw& d, dtype type) -> placed_problem {
    shape s = some_shape(d);
    s.head_dim = d.one_of<int64_t>({64, 128, 256, 80, 2 * d.integer(1, 40)});
    const int64_t most = s.head_dim / 2;  // pairs
    const int64_t n = d.one_of<int64_t>({most, d.integer(1, most), std::min(most, (most + 7) / 8 * 4)});
    const sequences all(d, s, {static_cast<int32_t>(d.one_of<int64_t>({1, 16, d.integer(1, 60)}))}, type);
    const guarded table = guarded({all.offsets.back(), 2 * n}).fill(d);
    const rotary_style style = d.one_of({rotary_style::half, rotary_style::interleaved});
    // In float32 a key's last bit may turn its rounding to a 16-bit page, by more than the bound.
    const dtype page_type = type == dtype::f32 ? type : some_page_type(d, type);
    return [=](place& on) {
      const int64_t tokens = all.offsets.back();
      cache c(on, {s.kv_heads, s.head_dim, 16, page_type}, (tokens + 15) / 16, 3);
      placed &query = on.put(all.query, type), &key = on.put(all.key, type), &value = on.put(all.value, type);
      std::vector<int32_t> slots;
      for (int64_t i = 0; i < tokens; ++i) slots.push_back(slot_of(c.order.data(), i, 16));
      const tensor angles = on.put(table, dtype::f32).view();
      const kv_write_args write{.key = key.view(), .value = value.view(), .slots = on.put(slots), .pages = c.pages()};
      if (on.ex.ops.rotary_kv_write) {
        ops::rotary_kv_write(on.ex, {.query = query.view(), .table = angles, .style = style, .keys = write});
      } else {
        ops::rotary(on.ex, {.x = query.view(), .table = angles, .style = style});
        ops::rotary(on.ex, {.x = key.view(), .table = angles, .style = style});
        ops::kv_write(on.ex, write);
      }
      placed& result = on.put(guarded({tokens, s.heads, s.head_dim}), type);
      ops::paged_attention(on.ex, {.out = result.view(),
                                   .query = on.put(all.query, type).view(),
                                   .pages = c.pages(),
                                   .page_table = on.put(c.order).reshape({1, static_cast<int64_t>(c.order.size())}),
                                   .row_offsets = on.put(std::vector<int32_t>{0, static_cast<int32_t>(tokens)}),
                                   .context_lengths = on.put(std::vector<int32_t>{static_cast<int32_t>(tokens)}),
                                   .options = {.scale = 1 / std::sqrt(static_cast<float>(s.head_dim))}});
      CHECK(c.intact());
      key.values(), value.values();
      std::vector<float> out = query.values(), attended = result.values();
      out.insert(out.end(), attended.begin(), attended.end());
      return out;
    };
  });
}

TEST(copied_pages_hold_the_same) {
  draw d(run_seed());
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16})
    for (int64_t head_dim : {64, 7}) {
      const shape s{4, 2, head_dim};
      const auto last_page = static_cast<int32_t>(d.integer(1, 16)), length = 32 + last_page;
      const sequences all(d, s, {length}, type);
      place on(gpu(), false);
      cache c(on, {2, head_dim, 16, type}, 6, 3);
      std::vector<int32_t> slots;
      for (int64_t i = 0; i < length; ++i) slots.push_back(slot_of(c.order.data(), i, 16));
      ops::kv_write(on.ex, {.key = on.put(all.key, type).view(),
                            .value = on.put(all.value, type).view(),
                            .slots = on.put(slots),
                            .pages = c.pages()});
      const std::vector<int32_t> from(c.order.begin(), c.order.begin() + 3), to(c.order.begin() + 3, c.order.end());
      ops::kv_copy(on.ex, {.pages = c.pages(),
                           .from = on.put(from),
                           .to = on.put(to),
                           .tokens = on.put(std::vector<int32_t>{16, 16, last_page})});
      CHECK(c.intact());
      const auto attend = [&](const std::vector<int32_t>& pages) {
        placed& result = on.put(guarded({length, 4, head_dim}), type);
        ops::paged_attention(on.ex, {.out = result.view(),
                                     .query = on.put(all.query, type).view(),
                                     .pages = c.pages(),
                                     .page_table = on.put(pages).reshape({1, 3}),
                                     .row_offsets = on.put(std::vector<int32_t>{0, length}),
                                     .context_lengths = on.put(std::vector<int32_t>{length})});
        return result.values();
      };
      expect_same_bits(attend(to), attend(from), cat("pages of ", name(type)));
    }
}

}  // namespace ft::test
