// Attention of rows that take one token each: long contexts that are split and joined again, rows that share keys, and
// keys that attention itself turns and stores.
#include "gpu/attention_bounds.h"
#include "ops/attention_problem.h"

namespace ft::test {

TEST(decode_attention_over_long_contexts) {
  compare_with_reference("paged_attention", 25, attention_bounds, [](draw& d, dtype type) -> placed_problem {
    const shape s = some_shape(d);
    std::vector<int32_t> lengths;
    for (int64_t r = d.integer(1, 3); r > 0; --r)
      lengths.push_back(static_cast<int32_t>(d.one_of<int64_t>({2, 64, 65, 129, 2049, d.integer(2, 3000), 4100})));
    const sequences all(d, s, lengths, type);
    const drawn_options options = some_options(d, s, all.longest());
    const dtype page_type = some_page_type(d, type);
    const int64_t more_pages = d.one_of<int64_t>({0, 0, 3000, 70000});  // cuts the keys into fewer, longer splits
    return [=](place& on) {
      const attention_options here = options.on(on);
      const int64_t pages_a_row = (all.longest() + 15) / 16;
      cache c(on, {s.kv_heads, s.head_dim, 16, page_type}, pages_a_row * static_cast<int64_t>(all.lengths.size()), 3);
      std::vector<float> all_out(static_cast<size_t>(all.offsets.back() * all.width())), out;
      std::vector<int32_t> slots;
      for (size_t r = 0; r < all.lengths.size(); ++r)
        for (int64_t i = 0; i < all.lengths[r]; ++i)
          slots.push_back(slot_of(c.order.data() + static_cast<int64_t>(r) * pages_a_row, i, 16));
      ops::kv_write(on.ex, {.key = on.put(all.key, type).view(),
                            .value = on.put(all.value, type).view(),
                            .slots = on.put(slots),
                            .pages = c.pages()});
      std::vector<part> last;
      for (size_t r = 0; r < all.lengths.size(); ++r)
        last.push_back({static_cast<int32_t>(r), all.lengths[r] - 1, all.lengths[r]});
      run_step(on, all, last, c, pages_a_row + more_pages, here, nullptr, all_out);
      for (int32_t end : std::vector<int32_t>(all.offsets.begin() + 1, all.offsets.end()))
        out.insert(out.end(), all_out.begin() + (end - 1) * all.width(), all_out.begin() + end * all.width());
      return out;
    };
  });
}

TEST(decode_attention_of_rows_that_share_keys) {
  compare_with_reference("paged_attention of groups", 6, attention_bounds, [](draw& d, dtype type) -> placed_problem {
    shape s = some_shape(d);
    while (s.head_dim % 8 || s.heads > 16) s = some_shape(d);
    struct group {
      int64_t rows, shared_pages;
      std::vector<int32_t> lengths;
    };
    const bool causal = d.integer(0, 2) > 0;
    constexpr int64_t page_tokens = 16;
    std::vector<group> groups;
    int64_t rows = 0, longest = 0, widest = 1, num_pages = 0;
    while (rows * s.kv_heads < 320) {
      group g{d.integer(1, 9), d.one_of<int64_t>({0, 1, d.integer(0, 9), d.integer(0, 9)}), {}};
      const auto length = static_cast<int32_t>(g.shared_pages * page_tokens + d.integer(1, 40));
      for (int64_t r = 0; r < g.rows; ++r)  // of one length, as beams are, or of any
        g.lengths.push_back(causal && g.rows % 3 == 0 ? length + static_cast<int32_t>(d.integer(0, 50)) : length);
      for (int32_t n : g.lengths) longest = std::max<int64_t>(longest, n);
      rows += g.rows;
      widest = std::max(widest, g.rows);
      groups.push_back(g);
    }
    const int64_t max_pages = (longest + page_tokens - 1) / page_tokens + d.one_of<int64_t>({0, 3, 100});
    std::vector<int32_t> table, offsets{0}, shared, context;
    const auto next_page = [&] { return static_cast<int32_t>(num_pages++); };
    for (const group& g : groups) {
      std::vector<int32_t> beginning;
      const int64_t pages = causal ? g.shared_pages : (g.lengths[0] + page_tokens - 1) / page_tokens;
      for (int64_t i = 0; i < pages; ++i) beginning.push_back(next_page());
      for (int32_t length : g.lengths) {
        const size_t first = table.size();
        table.insert(table.end(), beginning.begin(), beginning.end());
        while (static_cast<int64_t>(table.size() - first) * page_tokens < length) table.push_back(next_page());
        table.resize(first + static_cast<size_t>(max_pages), 0);
        context.push_back(length);
      }
      shared.push_back(causal ? static_cast<int32_t>(g.shared_pages * page_tokens) : g.lengths[0]);
      offsets.push_back(static_cast<int32_t>(context.size()));
    }
    std::vector<int32_t> row_offsets(context.size() + 1), slots(static_cast<size_t>(num_pages * page_tokens));
    std::iota(row_offsets.begin(), row_offsets.end(), 0);
    std::iota(slots.begin(), slots.end(), 0);
    drawn_options options = some_options(d, s, longest);
    options.plain.window = 0;
    if (!causal) options.slopes = options.relative = {};
    const auto drawn = [&](int64_t tokens, int64_t heads) {
      return rounded(guarded({tokens, heads, s.head_dim}, d.one_of<int64_t>({0, 24})).fill(d), type);
    };
    const guarded query = drawn(rows, s.heads), key = drawn(num_pages * page_tokens, s.kv_heads),
                  value = drawn(num_pages * page_tokens, s.kv_heads);
    return [=](place& on) {
      cache c(on, {s.kv_heads, s.head_dim, page_tokens, type}, num_pages, 3);
      ops::kv_write(on.ex, {.key = on.put(key, type).view(),
                            .value = on.put(value, type).view(),
                            .slots = on.put(slots),
                            .pages = c.pages()});
      placed& out = on.put(guarded({rows, s.heads, s.head_dim}), type);
      ops::paged_attention(on.ex,
                           {.out = out.view(),
                            .query = on.put(query, type).view(),
                            .pages = c.pages(),
                            .page_table = on.put(table).reshape({rows, max_pages}),
                            .row_offsets = on.put(row_offsets),
                            .context_lengths = on.put(context),
                            .causal = causal,
                            .options = options.on(on),
                            .shared = {.offsets = on.put(offsets), .lengths = on.put(shared), .widest = widest}});
      return out.values();
    };
  });
}

TEST(decoding_rows_do_not_depend_on_their_neighbours) {
  draw d(run_seed());
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16}) {
    const shape s{8, 2, 64};
    const sequences all(d, s, {200, 150, 90}, type);
    const auto run = [&](std::vector<part> last, int64_t more_pages) {
      place on(gpu(), false);
      cache c(on, {s.kv_heads, s.head_dim, 16, type}, 13 * 3, 3);
      std::vector<float> out(static_cast<size_t>(all.offsets.back() * all.width()));
      const drawn_options none;
      run_step(on, all, {{0, 0, 199}, {1, 0, 149}, {2, 0, 50}}, c, 13, none.plain, nullptr, out);
      run_step(on, all, last, c, 13 + more_pages, none.plain, nullptr, out);
      const auto begin = out.begin() + (all.offsets[1] - 1) * all.width();
      return std::vector<float>(begin, begin + all.width());
    };
    const std::vector<float> alone = run({{0, 199, 200}}, 0);
    expect_same_bits(run({{0, 199, 200}, {1, 149, 150}}, 0), alone, "beside another");
    expect_same_bits(run({{0, 199, 200}, {2, 50, 90}}, 0), alone, "beside a prompt");
    expect_same_bits(run({{1, 149, 150}, {0, 199, 200}}, 200), alone, "with a longer page table");
  }
}

TEST(paged_self_attention) {
  // Turned queries are rounded before the scores, which the reference does not.
  constexpr bounds turned_bounds{{2e-5, 1e-5}, {6e-3, 0x1p-9}, {5e-2, 0x1p-6}};
  compare_with_reference("paged_self_attention", 60, turned_bounds, [](draw& d, dtype type) -> placed_problem {
    shape s = some_shape(d);
    s.head_dim = d.one_of<int64_t>({64, 128, 128, 256, 256, 80, 16, 2 * d.integer(1, 40)});
    const int64_t most = s.head_dim / 2;  // pairs
    const int64_t n = d.one_of<int64_t>({most, std::min<int64_t>(most, 8), std::min(most, (most + 15) / 16 * 8)});
    const sequences all(d, s, some_lengths(d, d.integer(1, 4)), type);
    const drawn_options options = some_options(d, s, all.longest());
    rotation turned{guarded({all.offsets.back(), 1, 2 * n}), d.one_of({rotary_style::half, rotary_style::interleaved})};
    std::vector<float> angles = d.normals(all.offsets.back() * n, 3);
    turned.table.each([&, i = int64_t{0}](float& x) mutable {
      const int64_t token = i / (2 * n), column = i++ % (2 * n);
      const float angle = angles[static_cast<size_t>(token * n + column % n)];
      x = column < n ? std::cos(angle) : std::sin(angle);
    });
    const dtype page_type = type == dtype::f32 ? type : some_page_type(d, type);
    const int64_t page_tokens = d.one_of<int64_t>({16, 16, 32, 10}), more_pages = d.one_of<int64_t>({0, 0, 40, 1000});
    const int32_t first = static_cast<int32_t>(d.one_of<int64_t>({1, 14, 120, 250}));
    return [=](place& on) {
      // A step of `first` tokens each, then as many of one token as rows are long, but for one in between.
      const auto rows = static_cast<int64_t>(all.lengths.size());
      const auto next = [&, asked = int64_t{0}]() mutable {
        const int64_t step = asked++ / rows;
        return step == 0 ? first : step == 12 ? 5 : step == 24 ? 400 : 1;
      };
      return run_paged(on, all, page_type, page_tokens, more_pages, options.on(on), next, &turned);
    };
  });
}

}  // namespace ft::test
