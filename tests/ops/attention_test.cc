// Attention and the paged cache: every level against the reference, and the promise that a query's result is the same
// to the bit however its row was cut into steps, whatever its neighbours and however many threads work.
#include "ops/harness.h"

namespace ft::test {
namespace {

struct shape {
  int64_t heads, kv_heads, head_dim;
};

shape some_shape(draw& d) {
  const int64_t kv_heads = d.integer(1, 4), group = d.one_of<int64_t>({1, 1, 2, 3, 4, 7, 9});
  return {kv_heads * group, kv_heads, d.one_of<int64_t>({8, 16, 32, 40, 64, 80, 128, 256, 20, 7})};
}

// Options that keep the memory of their bias alive, whatever copies are made of them.
struct drawn_options : attention_options {
  std::shared_ptr<std::vector<float>> bias;

  void set_alibi(std::vector<float> slopes) {
    bias = std::make_shared<std::vector<float>>(std::move(slopes));
    alibi_slopes = bias->data();
  }
  // bias_of(head, distance) for distances of -reach to reach.
  template <class F>
  void set_relative(int64_t heads, int64_t reach, F&& bias_of) {
    bias = std::make_shared<std::vector<float>>();
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = -reach; i <= reach; ++i) bias->push_back(bias_of(h, i));
    relative_bias = tensor(bias->data(), dtype::f32, {heads, 2 * reach + 1});
  }
};

drawn_options some_options(draw& d, const shape& s) {
  drawn_options o;
  o.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  o.softcap = d.one_of({0.0f, 0.0f, 30.0f, 2.0f});
  o.window = d.one_of<int64_t>({0, 0, 1, 5, 40});
  switch (d.integer(0, 3)) {
    case 0:
      o.set_alibi(d.normals(s.heads, 0.1f));
      break;
    case 1:
      o.set_relative(s.heads, d.one_of<int64_t>({0, 1, 7, 16, 30, 200}), [&](int64_t, int64_t) { return d.normal(); });
      break;
    default:
      break;
  }
  return o;
}

std::vector<int32_t> offsets_of(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> offsets{0};
  for (int32_t n : lengths) offsets.push_back(offsets.back() + n);
  return offsets;
}

// A layer's pages. Every element starts as a NaN, as freed pages might hold anything; pages go to rows in a drawn
// order.
class cache {
 public:
  cache(const shape& s, dtype type, int64_t page_tokens, int64_t pages, draw& d)
      : layout{s.kv_heads, s.head_dim, page_tokens, type}, order(static_cast<size_t>(pages)) {
    keys.assign(cpu::kv_page_bytes(layout) * order.size() + guard, 0xff);
    values = keys;
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(d.integer(0, static_cast<int64_t>(i) - 1))]);
  }

  kv_pages pages() { return {keys.data(), values.data(), layout}; }
  bool intact() const {
    const auto untouched = [](const std::vector<uint8_t>& pool) {
      return std::all_of(pool.end() - guard, pool.end(), [](uint8_t b) { return b == 0xff; });
    };
    return untouched(keys) && untouched(values);
  }

  static constexpr int64_t guard = 64;
  kv_layout layout;
  std::vector<int32_t> order;
  std::vector<uint8_t> keys, values;
};

// Sequences with all their queries, keys and values, of which steps are run in any cut.
struct sequences {
  sequences(draw& d, const shape& s, std::vector<int32_t> row_lengths)
      : s(s), lengths(std::move(row_lengths)), offsets(offsets_of(lengths)) {
    query = guarded({offsets.back(), s.heads, s.head_dim}, 24).fill(d);
    key = guarded({offsets.back(), s.kv_heads, s.head_dim}, 8).fill(d);
    value = guarded({offsets.back(), s.kv_heads, s.head_dim}).fill(d);
  }

  int64_t longest() const { return *std::max_element(lengths.begin(), lengths.end()); }

  shape s;
  std::vector<int32_t> lengths, offsets;
  guarded query, key, value;
};

// A row's part of a step.
struct part {
  int32_t row, begin, end;
};

guarded rows_of(const guarded& x, const sequences& all, const std::vector<part>& step) {
  int64_t tokens = 0;
  for (const part& p : step) tokens += p.end - p.begin;
  const tensor from = x.view();
  guarded result({tokens, from.shape[1], from.shape[2]}, 3);
  const size_t row_bytes = sizeof(float) * static_cast<size_t>(from.shape[1] * from.shape[2]);
  int64_t t = 0;
  for (const part& p : step)
    for (int32_t i = p.begin; i < p.end; ++i, ++t)
      std::memcpy(result.view().slice(0, t, t + 1).data, from.slice(0, all.offsets[p.row] + i, from.shape[0]).data,
                  row_bytes);
  return result;
}

// Runs one step: writes its keys and values, then attends. Results go to their places in `out`, which is laid out as
// all the sequences' tokens.
void run_step(exec& ex, const sequences& all, const std::vector<part>& step, cache& c, const attention_options& options,
              std::vector<float>& out) {
  const int64_t page_tokens = c.layout.page_tokens, rows = static_cast<int64_t>(step.size());
  const int64_t pages_a_row = (all.longest() + page_tokens - 1) / page_tokens;
  std::vector<int32_t> table, lengths, context, slots;
  for (const part& p : step) {
    const int32_t* pages = c.order.data() + p.row * pages_a_row;
    table.insert(table.end(), pages, pages + pages_a_row);
    lengths.push_back(p.end - p.begin);
    context.push_back(p.end);
    for (int64_t i = p.begin; i < p.end; ++i)
      slots.push_back(static_cast<int32_t>(pages[i / page_tokens] * page_tokens + i % page_tokens));
  }
  const std::vector<int32_t> offsets = offsets_of(lengths);
  const guarded query = rows_of(all.query, all, step), key = rows_of(all.key, all, step),
                value = rows_of(all.value, all, step);
  guarded result({offsets.back(), all.s.heads, all.s.head_dim});
  ops::kv_write(ex, {.key = key.view(), .value = value.view(), .slots = vector_of(slots), .pages = c.pages()});
  ops::paged_attention(ex, {.out = result.view(),
                            .query = query.view(),
                            .pages = c.pages(),
                            .page_table = tensor(table.data(), dtype::i32, {rows, pages_a_row}),
                            .row_offsets = vector_of(offsets),
                            .context_lengths = vector_of(context),
                            .options = options});
  CHECK(result.intact() && c.intact());
  const std::vector<float> values = result.values();
  const int64_t width = all.s.heads * all.s.head_dim;
  for (size_t i = 0; i < step.size(); ++i)
    std::copy(values.begin() + offsets[i] * width, values.begin() + offsets[i + 1] * width,
              out.begin() + (all.offsets[step[i].row] + step[i].begin) * width);
}

// All the sequences, each cut by `next`, which says how many tokens a row's next part takes (0: it sits this step out).
template <class Next>
std::vector<float> run_paged(exec& ex, const sequences& all, dtype type, int64_t page_tokens,
                             const attention_options& options, Next next) {
  draw d(3);
  const int64_t pages_a_row = (all.longest() + page_tokens - 1) / page_tokens;
  cache c(all.s, type, page_tokens, pages_a_row * static_cast<int64_t>(all.lengths.size()), d);
  std::vector<float> out(static_cast<size_t>(all.offsets.back() * all.s.heads * all.s.head_dim));
  std::vector<int32_t> done(all.lengths.size(), 0);
  for (bool left = true; left;) {
    std::vector<part> step;
    left = false;
    for (size_t r = 0; r < done.size(); ++r) {
      const int32_t n = std::min<int32_t>(next(), all.lengths[r] - done[r]);
      if (n > 0) step.push_back({static_cast<int32_t>(r), done[r], done[r] + n});
      done[r] += n;
      left |= done[r] < all.lengths[r];
    }
    if (!step.empty()) run_step(ex, all, step, c, options, out);
  }
  return out;
}

std::vector<float> run_whole(exec& ex, const sequences& all, bool causal, const attention_options& options) {
  guarded out({all.offsets.back(), all.s.heads, all.s.head_dim});
  ops::attention(ex, {.out = out.view(),
                      .query = all.query.view(),
                      .key = all.key.view(),
                      .value = all.value.view(),
                      .row_offsets = vector_of(all.offsets),
                      .causal = causal,
                      .options = options});
  CHECK(out.intact());
  return out.values();
}

std::vector<int32_t> some_lengths(draw& d, int64_t rows) {
  std::vector<int32_t> lengths(static_cast<size_t>(rows));
  for (int32_t& n : lengths) n = static_cast<int32_t>(d.one_of<int64_t>({1, 1, 2, 15, 16, 17, 33, d.integer(1, 150)}));
  return lengths;
}

// What a decoder and its encoder bring to cross-attention: queries of some rows, keys and values of others.
struct two_sequences {
  two_sequences(draw& d, const shape& s)
      : queries(d, s, some_lengths(d, 3)),
        keys(d, s, some_lengths(d, 3)),
        options{.scale = 1 / std::sqrt(static_cast<float>(s.head_dim)), .softcap = d.one_of({0.0f, 5.0f})} {}

  sequences queries, keys;
  attention_options options;
};

std::vector<float> run_cross(exec& ex, const two_sequences& both) {
  guarded out({both.queries.offsets.back(), both.queries.s.heads, both.queries.s.head_dim});
  ops::attention(ex, {.out = out.view(),
                      .query = both.queries.query.view(),
                      .key = both.keys.key.view(),
                      .value = both.keys.value.view(),
                      .row_offsets = vector_of(both.queries.offsets),
                      .key_row_offsets = vector_of(both.keys.offsets),
                      .options = both.options});
  CHECK(out.intact());
  return out.values();
}

// All keys are in their pages before the first of the queries, `step` of each row at a time.
std::vector<float> run_paged_cross(exec& ex, const two_sequences& both, dtype type, int64_t page_tokens, int32_t step) {
  const sequences &queries = both.queries, &keys = both.keys;
  draw d(5);
  const int64_t pages_a_row = (keys.longest() + page_tokens - 1) / page_tokens;
  const auto rows = static_cast<int64_t>(keys.lengths.size());
  cache c(keys.s, type, page_tokens, pages_a_row * rows, d);
  std::vector<int32_t> slots;
  for (size_t r = 0; r < keys.lengths.size(); ++r)
    for (int64_t i = 0; i < keys.lengths[r]; ++i)
      slots.push_back(static_cast<int32_t>(
          c.order[r * static_cast<size_t>(pages_a_row) + static_cast<size_t>(i / page_tokens)] * page_tokens +
          i % page_tokens));
  ops::kv_write(ex,
                {.key = keys.key.view(), .value = keys.value.view(), .slots = vector_of(slots), .pages = c.pages()});

  const int64_t width = queries.s.heads * queries.s.head_dim;
  std::vector<float> out(static_cast<size_t>(queries.offsets.back() * width));
  for (int32_t done = 0; done < queries.longest(); done += step) {
    std::vector<part> parts;
    std::vector<int32_t> lengths, context, table;
    for (int32_t r = 0; r < rows; ++r) {
      const int32_t end = std::min(done + step, queries.lengths[static_cast<size_t>(r)]);
      if (end <= done) continue;
      parts.push_back({r, done, end});
      lengths.push_back(end - done);
      context.push_back(keys.lengths[static_cast<size_t>(r)]);
      const auto pages = c.order.begin() + r * pages_a_row;
      table.insert(table.end(), pages, pages + pages_a_row);
    }
    const std::vector<int32_t> offsets = offsets_of(lengths);
    const guarded query = rows_of(queries.query, queries, parts);
    guarded result({offsets.back(), queries.s.heads, queries.s.head_dim});
    ops::paged_attention(
        ex, {.out = result.view(),
             .query = query.view(),
             .pages = c.pages(),
             .page_table = tensor(table.data(), dtype::i32, {static_cast<int64_t>(parts.size()), pages_a_row}),
             .row_offsets = vector_of(offsets),
             .context_lengths = vector_of(context),
             .causal = false,
             .options = both.options});
    CHECK(result.intact() && c.intact());
    const std::vector<float> values = result.values();
    for (size_t i = 0; i < parts.size(); ++i)
      std::copy(values.begin() + offsets[i] * width, values.begin() + offsets[i + 1] * width,
                out.begin() + (queries.offsets[static_cast<size_t>(parts[i].row)] + parts[i].begin) * width);
  }
  return out;
}

}  // namespace

TEST(attention_matches_reference) {
  compare_with_reference("attention", 60, {3e-6, 3e-6}, [](draw& d) -> problem {
    const shape s = some_shape(d);
    const sequences all(d, s, some_lengths(d, d.integer(1, 5)));
    const drawn_options options = some_options(d, s);
    const bool causal = d.coin();
    return [=](exec& ex) { return run_whole(ex, all, causal, options); };
  });
}

TEST(paged_attention_matches_reference) {
  compare_with_reference("paged_attention", 60, {3e-6, 3e-6}, [](draw& d) -> problem {
    const shape s = some_shape(d);
    const sequences all(d, s, some_lengths(d, d.integer(1, 5)));
    const drawn_options options = some_options(d, s);
    const dtype type = d.one_of({dtype::f32, dtype::f16, dtype::bf16});
    const int64_t page_tokens = d.one_of<int64_t>({16, 16, 32, 64, 10});
    const uint64_t seed = static_cast<uint64_t>(d.integer(0, 1000));
    return [=](exec& ex) {
      draw cut(seed);
      return run_paged(ex, all, type, page_tokens, options, [&] { return static_cast<int32_t>(cut.integer(0, 40)); });
    };
  });
}

TEST(cross_attention_matches_reference) {
  compare_with_reference("cross-attention", 40, {3e-6, 3e-6}, [](draw& d) -> problem {
    const two_sequences both(d, some_shape(d));
    const dtype type = d.one_of({dtype::f32, dtype::f16, dtype::bf16});
    const int64_t page_tokens = d.one_of<int64_t>({16, 32, 10});
    return [=](exec& ex) {
      std::vector<float> out = run_cross(ex, both);
      const std::vector<float> paged = run_paged_cross(ex, both, type, page_tokens, 20);
      out.insert(out.end(), paged.begin(), paged.end());
      return out;
    };
  });
}

TEST(cross_attention_does_not_depend_on_the_cut) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    draw d(seed);
    const two_sequences both(d, some_shape(d));
    std::vector<float> want;
    for (auto& m : machines()) {
      if (m->threads == 1) want = run_cross(m->ex, both);
      expect_same_bits(run_cross(m->ex, both), want, cat("seed ", seed, ", ", m->name()));
      for (int32_t step : {1, 7, 1000})
        expect_same_bits(run_paged_cross(m->ex, both, dtype::f32, 16, step), want,
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
    const sequences all(d, s, {150, 33, 1});
    const bool causal = d.coin();
    drawn_options sloped, tabled, windowed, forbidden;
    sloped.set_alibi(d.normals(s.heads, 0.3f));
    tabled.set_relative(s.heads, 150, [&](int64_t h, int64_t distance) {
      return sloped.alibi_slopes[h] * static_cast<float>(distance);
    });
    windowed.window = 21;
    forbidden.set_relative(s.heads, 21, [](int64_t, int64_t distance) { return distance <= -21 ? -1e30f : 0.0f; });
    const auto expect_same = [&](exec& ex, const drawn_options& a, const drawn_options& b, const std::string& what) {
      expect_close(run_whole(ex, all, causal, a), run_whole(ex, all, causal, b), {1e-5, 1e-5},
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
    const sequences all(d, s, {2500});
    const attention_options options{.scale = 0.1f};
    for (dtype type : {dtype::f32, dtype::bf16}) {
      // All but the last token in one step, once; what is compared is the one-token step after it.
      draw order(5);
      cache c(s, type, 16, 157, order);
      std::vector<float> out(static_cast<size_t>(2500 * s.heads * s.head_dim));
      run_step(machines().back()->ex, all, {{0, 0, 2499}}, c, options, out);
      const auto last_token = [&](exec& ex) {
        run_step(ex, all, {{0, 2499, 2500}}, c, options, out);
        return std::vector<float>(out.end() - s.heads * s.head_dim, out.end());
      };
      const std::vector<float> want = last_token(reference().ex);
      for (auto& m : machines()) expect_close(last_token(m->ex), want, {3e-6, 3e-6}, cat("long context, ", m->name()));
    }
  }
}

// Whole prompts, token by token, and drawn cuts in which rows join and sit out: all the same bits, and with f32 pages
// also those of attention without pages. The first machine of a level, with one thread, is what the others must equal.
TEST(results_do_not_depend_on_the_cut) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    draw d(seed);
    const shape s = some_shape(d);
    const sequences all(d, s,
                        {static_cast<int32_t>(d.integer(20, 150)), 1, static_cast<int32_t>(d.integer(1, 40)), 33});
    const drawn_options options = some_options(d, s);
    const dtype type = d.one_of({dtype::f32, dtype::f16, dtype::bf16});
    std::vector<float> want;
    for (auto& m : machines()) {
      const std::string what = cat("seed ", seed, ", ", m->name());
      const auto whole = run_paged(m->ex, all, type, 16, options, [] { return 1000; });
      if (m->threads == 1) want = whole;
      expect_same_bits(whole, want, cat("whole prompts, ", what));
      expect_same_bits(run_paged(m->ex, all, type, 16, options, [] { return 1; }), want, cat("one by one, ", what));
      for (int cut = 0; cut < 2; ++cut) {
        const auto drawn = run_paged(m->ex, all, type, cut == 1 ? 48 : 16, options,
                                     [&] { return static_cast<int32_t>(d.coin() ? d.integer(1, 50) : 0); });
        expect_same_bits(drawn, want, cat("cut ", cut, ", ", what));
      }
      if (type == dtype::f32)
        expect_same_bits(run_whole(m->ex, all, true, options), want, cat("without pages, ", what));
    }
  }
}

// A long context decoded in one step, whose work is split more finely among threads, gives the bits of the prompt.
TEST(long_contexts_do_not_depend_on_threads) {
  draw d(21);
  for (const shape& s : {shape{3, 1, 64}, shape{2, 2, 40}, shape{16, 1, 128}}) {
    const sequences all(d, s, {1100, 40});
    drawn_options sloped;
    sloped.set_alibi(d.normals(s.heads, 0.01f));
    for (const attention_options& options :
         {attention_options{.scale = 0.125f}, attention_options{.scale = 0.125f, .softcap = 20, .window = 1000},
          attention_options(sloped)}) {
      draw order(9);
      cache c(s, dtype::f32, 16, 2 * 69, order);
      std::vector<float> out(static_cast<size_t>(1140 * s.heads * s.head_dim)), want;
      run_step(machines().front()->ex, all, {{0, 0, 1097}}, c, options, out);
      for (auto& m : machines()) {
        const auto whole = run_paged(m->ex, all, dtype::f32, 16, options, [] { return 2000; });
        if (m->threads == 1) want = whole;
        expect_same_bits(whole, want, cat("a prompt of 1100 tokens, ", m->name()));
        out = whole;
        for (int32_t t = 1097; t < 1100; ++t) run_step(m->ex, all, {{0, t, t + 1}}, c, options, out);
        expect_same_bits(out, want, cat("decoding at 1100 tokens, ", m->name()));
      }
    }
  }
}

TEST(attention_does_not_depend_on_neighbours) {
  draw d(31);
  const shape s{6, 2, 32};
  const sequences all(d, s, {40, 1, 300, 128, 7});
  for (bool causal : {false, true})
    for (auto& m : machines()) {
      const std::vector<float> together = run_whole(m->ex, all, causal, {.scale = 0.2f});
      for (size_t r = 0; r < all.lengths.size(); ++r) {
        sequences alone = all;
        alone.lengths = {all.lengths[r]};
        alone.offsets = {0, all.lengths[r]};
        const std::vector<part> whole_row{{static_cast<int32_t>(r), 0, all.lengths[r]}};
        alone.query = rows_of(all.query, all, whole_row);
        alone.key = rows_of(all.key, all, whole_row);
        alone.value = rows_of(all.value, all, whole_row);
        const int64_t width = s.heads * s.head_dim;
        expect_same_bits(run_whole(m->ex, alone, causal, {.scale = 0.2f}),
                         {together.begin() + all.offsets[r] * width, together.begin() + all.offsets[r + 1] * width},
                         cat("row ", r, ", ", m->name()));
      }
    }
}

TEST(steady_steps_allocate_nothing) {
  draw d(41);
  const shape s{9, 3, 64};
  const sequences all(d, s, {200});
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
