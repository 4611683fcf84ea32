// Attention and the paged cache: every level against the reference, and the promise that a query's result is the same
// to the bit however its row was cut into steps, whatever its neighbours and however many threads work.
#include "ops/attention_problem.h"

namespace ft::test {
namespace {

constexpr bound attention_bound{3e-6, 3e-6};
constexpr int64_t longest = 100;  // of the rows drawn

dtype any_page_type(draw& d) { return d.one_of({dtype::f32, dtype::f16, dtype::bf16}); }

// A table of the bias of every distance from -reach to reach.
template <class F>
drawn_options with_relative(int64_t heads, int64_t reach, F&& bias_of) {
  drawn_options o;
  o.heads = heads;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = -reach; i <= reach; ++i) o.relative.push_back(bias_of(h, i));
  return o;
}

}  // namespace

TEST(attention_matches_reference) {
  compare_levels("attention", 60, attention_bound, [](draw& d, dtype type) -> placed_problem {
    const shape s = some_shape(d);
    const sequences all(d, s, some_lengths(d, d.integer(1, 5), longest), type);
    const drawn_options options = some_options(d, s, all.longest());
    const bool causal = d.coin();
    return [=](place& on) { return run_whole(on, all, causal, options.on(on)); };
  });
}

TEST(paged_attention_matches_reference) {
  compare_levels("paged_attention", 60, attention_bound, [](draw& d, dtype type) -> placed_problem {
    const shape s = some_shape(d);
    const sequences all(d, s, some_lengths(d, d.integer(1, 5), longest), type);
    const drawn_options options = some_options(d, s, all.longest());
    const dtype page_type = any_page_type(d);
    const int64_t page_tokens = d.one_of<int64_t>({16, 16, 32, 64, 10}), more_pages = d.one_of<int64_t>({0, 0, 3});
    const uint64_t seed = static_cast<uint64_t>(d.integer(0, 1000));
    return [=](place& on) {
      draw cut(seed);
      return run_paged(on, all, page_type, page_tokens, more_pages, options.on(on),
                       [&] { return static_cast<int32_t>(cut.integer(0, 40)); });
    };
  });
}

TEST(cross_attention_matches_reference) {
  compare_levels("cross-attention", 40, attention_bound, [](draw& d, dtype type) -> placed_problem {
    const two_sequences both(d, some_shape(d), type, longest);
    const dtype page_type = any_page_type(d);
    const int64_t page_tokens = d.one_of<int64_t>({16, 32, 10});
    return [=](place& on) {
      std::vector<float> out = run_cross(on, both);
      const std::vector<float> paged = run_paged_cross(on, both, page_type, page_tokens, 20);
      out.insert(out.end(), paged.begin(), paged.end());
      return out;
    };
  });
}

TEST(cross_attention_does_not_depend_on_the_cut) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    draw d(seed);
    const two_sequences both(d, some_shape(d), dtype::f32, longest);
    std::vector<float> want;
    for (auto& m : machines()) {
      place on(m->ex, true);
      if (m->threads == 1) want = run_cross(on, both);
      expect_same_bits(run_cross(on, both), want, cat("seed ", seed, ", ", m->name()));
      for (int32_t step : {1, 7, 1000})
        expect_same_bits(run_paged_cross(on, both, dtype::f32, 16, step), want,
                         cat("seed ", seed, ", ", step, " at a time, ", m->name()));
    }
  }
}

// What the biases mean, by what else means the same: slopes are a table of their multiples, and a table that forbids
// distances is a window.
TEST(biases_agree_with_one_another) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    draw d(seed);
    const shape s = some_shape(d);
    const sequences all(d, s, {150, 33, 1}, dtype::f32);
    const bool causal = d.coin();
    drawn_options sloped, windowed;
    sloped.slopes = d.normals(s.heads, 0.3f);
    windowed.plain.window = 21;
    const drawn_options tabled = with_relative(s.heads, 150, [&](int64_t h, int64_t distance) {
      return sloped.slopes[static_cast<size_t>(h)] * static_cast<float>(distance);
    });
    const drawn_options forbidden =
        with_relative(s.heads, 21, [](int64_t, int64_t distance) { return distance <= -21 ? -1e30f : 0.0f; });
    const auto expect_same = [&](exec& ex, const drawn_options& a, const drawn_options& b, const std::string& what) {
      place on(ex, true);
      expect_close(run_whole(on, all, causal, a.on(on)), run_whole(on, all, causal, b.on(on)), {1e-5, 1e-5},
                   cat("seed ", seed, what));
    };
    for (auto& m : machines()) {
      expect_same(m->ex, sloped, tabled, cat(": slopes, ", m->name()));
      expect_same(m->ex, windowed, forbidden, cat(": a window, ", m->name()));
    }
    expect_same(reference().ex, sloped, tabled, ": slopes, reference");
    expect_same(reference().ex, windowed, forbidden, ": a window, reference");
  }
}

TEST(long_contexts_match_reference) {
  draw d(11);
  for (const shape& s : {shape{3, 1, 64}, shape{4, 2, 80}, shape{9, 3, 64}}) {
    const sequences all(d, s, {2500}, dtype::f32);
    const attention_options options{.scale = 0.1f};
    for (dtype type : {dtype::f32, dtype::bf16}) {
      // All but the last token in one step, once; what is compared is the one-token step after it.
      place first(machines().back()->ex, true);
      cache c(first, {s.kv_heads, s.head_dim, 16, type}, 157, 5);
      std::vector<float> out(static_cast<size_t>(2500 * all.width()));
      run_step(first, all, {{0, 0, 2499}}, c, 157, options, nullptr, out);
      const auto last_token = [&](exec& ex) {
        place on(ex, true);
        run_step(on, all, {{0, 2499, 2500}}, c, 157, options, nullptr, out);
        return std::vector<float>(out.end() - all.width(), out.end());
      };
      const std::vector<float> want = last_token(reference().ex);
      for (auto& m : machines()) expect_close(last_token(m->ex), want, attention_bound, cat("long, ", m->name()));
    }
  }
}

// Whole prompts, token by token, and drawn cuts in which rows join and sit out: all the same bits, and with f32 pages
// also those of attention without pages. The first machine of a level, with one thread, is what the others must equal.
TEST(results_do_not_depend_on_the_cut) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    draw d(seed);
    const shape s = some_shape(d);
    const sequences all(d, s, {static_cast<int32_t>(d.integer(20, 150)), 1, static_cast<int32_t>(d.integer(1, 40)), 33},
                        dtype::f32);
    const drawn_options options = some_options(d, s, all.longest());
    const dtype type = any_page_type(d);
    std::vector<float> want;
    for (auto& m : machines()) {
      place on(m->ex, true);
      const attention_options here = options.on(on);
      const std::string what = cat("seed ", seed, ", ", m->name());
      const auto whole = run_paged(on, all, type, 16, 0, here, [] { return 1000; });
      if (m->threads == 1) want = whole;
      expect_same_bits(whole, want, cat("whole prompts, ", what));
      expect_same_bits(run_paged(on, all, type, 16, 0, here, [] { return 1; }), want, cat("one by one, ", what));
      for (int cut = 0; cut < 2; ++cut) {
        const auto drawn = run_paged(on, all, type, cut == 1 ? 48 : 16, 0, here,
                                     [&] { return static_cast<int32_t>(d.coin() ? d.integer(1, 50) : 0); });
        expect_same_bits(drawn, want, cat("cut ", cut, ", ", what));
      }
      if (type == dtype::f32) expect_same_bits(run_whole(on, all, true, here), want, cat("without pages, ", what));
    }
  }
}

// A long context decoded in one step, whose work is split more finely among threads, gives the bits of the prompt.
TEST(long_contexts_do_not_depend_on_threads) {
  draw d(21);
  for (const shape& s : {shape{3, 1, 64}, shape{2, 2, 40}, shape{16, 1, 128}}) {
    const sequences all(d, s, {1100, 40}, dtype::f32);
    drawn_options plain, soft, sloped;
    plain.plain.scale = soft.plain.scale = 0.125f;
    soft.plain.softcap = 20;
    soft.plain.window = 1000;
    sloped.slopes = d.normals(s.heads, 0.01f);
    for (const drawn_options& options : {plain, soft, sloped}) {
      place before(machines().front()->ex, true);
      cache c(before, {s.kv_heads, s.head_dim, 16, dtype::f32}, 2 * 69, 9);
      std::vector<float> out(static_cast<size_t>(1140 * all.width())), want;
      run_step(before, all, {{0, 0, 1097}}, c, 69, options.on(before), nullptr, out);
      for (auto& m : machines()) {
        place on(m->ex, true);
        const attention_options here = options.on(on);
        const auto whole = run_paged(on, all, dtype::f32, 16, 0, here, [] { return 2000; });
        if (m->threads == 1) want = whole;
        expect_same_bits(whole, want, cat("a prompt of 1100 tokens, ", m->name()));
        out = whole;
        for (int32_t t = 1097; t < 1100; ++t) run_step(on, all, {{0, t, t + 1}}, c, 69, here, nullptr, out);
        expect_same_bits(out, want, cat("decoding at 1100 tokens, ", m->name()));
      }
    }
  }
}

TEST(attention_does_not_depend_on_neighbours) {
  draw d(31);
  const shape s{6, 2, 32};
  const sequences all(d, s, {40, 1, 300, 128, 7}, dtype::f32);
  for (bool causal : {false, true})
    for (auto& m : machines()) {
      place on(m->ex, true);
      const std::vector<float> together = run_whole(on, all, causal, {.scale = 0.2f});
      for (size_t r = 0; r < all.lengths.size(); ++r) {
        sequences alone = all;
        alone.lengths = {all.lengths[r]};
        alone.offsets = {0, all.lengths[r]};
        const std::vector<part> whole_row{{static_cast<int32_t>(r), 0, all.lengths[r]}};
        alone.query = rows_of(all.query, all, whole_row, 3);
        alone.key = rows_of(all.key, all, whole_row, 3);
        alone.value = rows_of(all.value, all, whole_row, 3);
        expect_same_bits(
            run_whole(on, alone, causal, {.scale = 0.2f}),
            {together.begin() + all.offsets[r] * all.width(), together.begin() + all.offsets[r + 1] * all.width()},
            cat("row ", r, ", ", m->name()));
      }
    }
}

TEST(steady_steps_allocate_nothing) {
  draw d(41);
  const shape s{9, 3, 64};
  const sequences all(d, s, {200}, dtype::f32);
  const kv_layout layout{s.kv_heads, s.head_dim, 16, dtype::bf16};
  std::vector<uint8_t> keys(cpu::kv_page_bytes(layout) * 13), values(keys.size());
  std::vector<int32_t> table(13), offsets{0, 1};
  std::iota(table.begin(), table.end(), 0);
  for (auto& m : machines()) {
    uint64_t before = 0;
    guarded out({1, s.heads, s.head_dim});
    for (int32_t t = 0; t < 200; ++t) {
      if (t == 1) before = allocation_count();
      const tensor at_t = all.query.view().slice(0, t, t + 1);
      const std::vector<int32_t> slot{t}, context{t + 1};
      const kv_pages pages{keys.data(), values.data(), layout};
      ops::kv_write(m->ex, {.key = all.key.view().slice(0, t, t + 1),
                            .value = all.value.view().slice(0, t, t + 1),
                            .slots = vector_of(slot),
                            .pages = pages});
      ops::paged_attention(m->ex, {.out = out.view(),
                                   .query = at_t,
                                   .pages = pages,
                                   .page_table = tensor(table.data(), dtype::i32, {1, 13}),
                                   .row_offsets = vector_of(offsets),
                                   .context_lengths = vector_of(context)});
      m->scratch.reset();
    }
    CHECK_EQ(allocation_count(), before);
  }
}

}  // namespace ft::test
