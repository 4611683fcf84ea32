// Attention and the paged cache: the GPU against the reference on drawn shapes, dtypes and cuts of rows into steps, and
// what a row's result must not depend on.
#include "gpu/place.h"

namespace ft::test {
namespace {

// The weights of 16-bit types are rounded once more, to multiply the values, which reach 4.
constexpr bounds attention_bounds{{6e-6, 6e-6}, {2e-3, 0x1p-10}, {1.6e-2, 0x1p-7}};

struct shape {
  int64_t heads, kv_heads, head_dim;
};

shape some_shape(draw& d) {
  const int64_t kv_heads = d.integer(1, 4), group = d.one_of<int64_t>({1, 1, 2, 3, 4, 7, 8, 9});
  return {kv_heads * group, kv_heads, d.one_of<int64_t>({8, 16, 32, 40, 64, 64, 80, 96, 128, 128, 160, 256, 20, 7})};
}

std::vector<int32_t> some_lengths(draw& d, int64_t rows) {
  std::vector<int32_t> lengths(static_cast<size_t>(rows));
  for (int32_t& n : lengths)
    n = static_cast<int32_t>(d.one_of<int64_t>({1, 1, 2, 15, 16, 17, 63, 64, 65, 130, d.integer(1, 300)}));
  return lengths;
}

std::vector<int32_t> offsets_of(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> offsets{0};
  for (int32_t n : lengths) offsets.push_back(offsets.back() + n);
  return offsets;
}

// Options whose bias is put where a problem is computed.
struct drawn_options {
  attention_options plain;
  std::vector<float> slopes, relative;  // at most one is not empty
  int64_t heads = 0;

  attention_options on(place& p) const {
    attention_options o = plain;
    if (!slopes.empty()) o.alibi_slopes = p.put(slopes);
    if (!relative.empty())
      o.relative_bias = tensor(const_cast<float*>(p.put(relative)), dtype::f32,
                               {heads, static_cast<int64_t>(relative.size()) / heads});
    return o;
  }
};

// Slopes are such that no bias is beyond about 30: float32 scores of hundreds would differ by more than the bound.
drawn_options some_options(draw& d, const shape& s, int64_t longest) {
  drawn_options o;
  o.heads = s.heads;
  o.plain.scale = 1 / std::sqrt(static_cast<float>(s.head_dim));
  o.plain.softcap = d.one_of({0.0f, 0.0f, 30.0f, 2.0f});
  o.plain.window = d.one_of<int64_t>({0, 0, 0, 1, 5, 40, 100});
  const int64_t bias = d.integer(0, 3);
  if (bias == 0) o.slopes = d.normals(s.heads, std::min(0.1f, 10 / static_cast<float>(longest)));
  if (bias == 1) o.relative = d.normals(s.heads * (2 * d.one_of<int64_t>({0, 1, 7, 30, 64, 400}) + 1));
  return o;
}

// Sequences with all their queries, keys and values, of which steps are run in any cut.
struct sequences {
  sequences(draw& d, const shape& shape, std::vector<int32_t> row_lengths, dtype type)
      : s(shape),
        type(type),
        lengths(std::move(row_lengths)),
        offsets(offsets_of(lengths)),
        aligned(d.integer(0, 3) > 0) {
    query = drawn(d, s.heads);
    key = drawn(d, s.kv_heads);
    value = drawn(d, s.kv_heads);
  }

  guarded drawn(draw& d, int64_t heads) const {
    const int64_t gap = aligned ? d.one_of<int64_t>({0, 24}) : d.one_of<int64_t>({3, 1});
    return rounded(guarded({offsets.back(), heads, s.head_dim}, gap).fill(d), type);
  }
  int64_t longest() const { return *std::max_element(lengths.begin(), lengths.end()); }
  int64_t width() const { return s.heads * s.head_dim; }

  shape s;
  dtype type;
  std::vector<int32_t> lengths, offsets;
  bool aligned;  // whether rows begin at multiples of 16 bytes
  guarded query, key, value;
};

// A row's part of a step.
struct part {
  int32_t row, begin, end;
};

guarded rows_of(const guarded& x, const sequences& all, const std::vector<part>& step, int64_t gap) {
  int64_t tokens = 0;
  for (const part& p : step) tokens += p.end - p.begin;
  const tensor from = x.view();
  guarded result({tokens, from.shape[1], from.shape[2]}, gap);
  const size_t row_bytes = sizeof(float) * static_cast<size_t>(from.shape[1] * from.shape[2]);
  int64_t t = 0;
  for (const part& p : step)
    for (int32_t i = p.begin; i < p.end; ++i, ++t)
      std::memcpy(result.view().slice(0, t, t + 1).data, from.slice(0, all.offsets[p.row] + i, from.shape[0]).data,
                  row_bytes);
  return result;
}

// A layer's pages on one device. Every element starts as a NaN, as freed pages might hold anything; pages go to rows in
// a drawn order.
class cache {
 public:
  cache(place& on, const kv_layout& layout, int64_t pages, uint64_t seed)
      : on_(on), layout(layout), order(static_cast<size_t>(pages)) {
    bytes_ = on.ex.device.kv_page_bytes(layout) * order.size();
    const std::vector<uint8_t> nans(bytes_ + guard, 0xff);
    keys_ = on.copy(nans.data(), nans.size());
    values_ = on.copy(nans.data(), nans.size());
    draw d(seed);
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[static_cast<size_t>(d.integer(0, static_cast<int64_t>(i) - 1))]);
  }

  kv_pages pages() const { return {keys_, values_, layout}; }
  bool intact() const {
    for (const void* pool : {keys_, values_}) {
      std::vector<uint8_t> end(guard);
      on_.ex.download(end.data(), static_cast<const uint8_t*>(pool) + bytes_, guard);
      if (end != std::vector<uint8_t>(guard, 0xff)) return false;
    }
    return true;
  }

 private:
  static constexpr size_t guard = 64;
  place& on_;
  void *keys_ = nullptr, *values_ = nullptr;
  size_t bytes_ = 0;

 public:
  kv_layout layout;
  std::vector<int32_t> order;
};

int32_t slot_of(const int32_t* pages, int64_t token, int64_t page_tokens) {
  return static_cast<int32_t>(pages[token / page_tokens] * page_tokens + token % page_tokens);
}

// Cosines and sines of all the sequences' tokens [tokens, 1, 2 n].
struct rotation {
  guarded table;
  rotary_style style;
};

// Runs one step: turns its queries and keys where there is a rotation, writes its keys and values, and attends. Results
// go to their places in `out`, which is laid out as all the sequences' tokens. The page table may be wider than the
// longest row needs.
void run_step(place& on, const sequences& all, const std::vector<part>& step, cache& c, int64_t table_pages,
              const attention_options& options, const rotation* turned, std::vector<float>& out) {
  const int64_t page_tokens = c.layout.page_tokens, rows = static_cast<int64_t>(step.size());
  const int64_t pages_a_row = static_cast<int64_t>(c.order.size() / all.lengths.size());
  std::vector<int32_t> table, lengths, context, slots;
  for (const part& p : step) {
    const int32_t* pages = c.order.data() + p.row * pages_a_row;
    table.insert(table.end(), pages, pages + pages_a_row);
    table.insert(table.end(), static_cast<size_t>(table_pages - pages_a_row), 0x7fffffff);  // never read
    lengths.push_back(p.end - p.begin);
    context.push_back(p.end);
    for (int64_t i = p.begin; i < p.end; ++i) slots.push_back(slot_of(pages, i, page_tokens));
  }
  const std::vector<int32_t> offsets = offsets_of(lengths);
  placed &query = on.put(rows_of(all.query, all, step, 8), all.type),
         &key = on.put(rows_of(all.key, all, step, 3), all.type),
         &value = on.put(rows_of(all.value, all, step, 0), all.type);
  placed& result = on.put(guarded({offsets.back(), all.s.heads, all.s.head_dim}), all.type);
  paged_self_attention_args a{
      .keys = {.key = key.view(), .value = value.view(), .slots = on.put(slots), .pages = c.pages()},
      .attention = {.out = result.view(),
                    .query = query.view(),
                    .pages = c.pages(),
                    .page_table = on.put(table).reshape({rows, table_pages}),
                    .row_offsets = on.put(offsets),
                    .context_lengths = on.put(context),
                    .options = options}};
  if (turned) {
    const int64_t width = turned->table.view().shape[2];
    a.rotary_table = on.put(rows_of(turned->table, all, step, 0), dtype::f32).view().reshape({offsets.back(), width});
    a.style = turned->style;
  }
  ops::paged_self_attention(on.ex, a);
  CHECK(c.intact());
  const std::vector<float> values = result.values();
  const int64_t width = all.width();
  for (size_t i = 0; i < step.size(); ++i)
    std::copy(values.begin() + offsets[i] * width, values.begin() + offsets[i + 1] * width,
              out.begin() + (all.offsets[step[i].row] + step[i].begin) * width);
}

// All the sequences, each cut by `next`, which says how many tokens a row's next part takes (0: it sits this step out).
template <class Next>
std::vector<float> run_paged(place& on, const sequences& all, dtype page_type, int64_t page_tokens, int64_t more_pages,
                             const attention_options& options, Next next, const rotation* turned = nullptr) {
  const int64_t pages_a_row = (all.longest() + page_tokens - 1) / page_tokens;
  cache c(on, {all.s.kv_heads, all.s.head_dim, page_tokens, page_type},
          pages_a_row * static_cast<int64_t>(all.lengths.size()), 3);
  std::vector<float> out(static_cast<size_t>(all.offsets.back() * all.width()));
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
    if (!step.empty()) run_step(on, all, step, c, pages_a_row + more_pages, options, turned, out);
  }
  return out;
}

std::vector<float> run_whole(place& on, const sequences& all, bool causal, const attention_options& options) {
  placed& out = on.put(guarded({all.offsets.back(), all.s.heads, all.s.head_dim}), all.type);
  ops::attention(on.ex, {.out = out.view(),
                         .query = on.put(all.query, all.type).view(),
                         .key = on.put(all.key, all.type).view(),
                         .value = on.put(all.value, all.type).view(),
                         .row_offsets = on.put(all.offsets),
                         .causal = causal,
                         .options = options});
  return out.values();
}

// What a decoder and its encoder bring to cross-attention: queries of some rows, keys and values of others.
struct two_sequences {
  two_sequences(draw& d, const shape& s, dtype type)
      : queries(d, s, some_lengths(d, 3), type),
        keys(d, s, some_lengths(d, 3), type),
        options{.scale = 1 / std::sqrt(static_cast<float>(s.head_dim)), .softcap = d.one_of({0.0f, 5.0f})} {}

  sequences queries, keys;
  attention_options options;
};

std::vector<float> run_cross(place& on, const two_sequences& both) {
  const sequences &queries = both.queries, &keys = both.keys;
  placed& out = on.put(guarded({queries.offsets.back(), queries.s.heads, queries.s.head_dim}), queries.type);
  ops::attention(on.ex, {.out = out.view(),
                         .query = on.put(queries.query, queries.type).view(),
                         .key = on.put(keys.key, keys.type).view(),
                         .value = on.put(keys.value, keys.type).view(),
                         .row_offsets = on.put(queries.offsets),
                         .key_row_offsets = on.put(keys.offsets),
                         .options = both.options});
  return out.values();
}

// All keys are in their pages before the first of the queries, `step` of each row at a time.
std::vector<float> run_paged_cross(place& on, const two_sequences& both, dtype page_type, int64_t page_tokens,
                                   int32_t step) {
  const sequences &queries = both.queries, &keys = both.keys;
  const int64_t pages_a_row = (keys.longest() + page_tokens - 1) / page_tokens;
  const auto rows = static_cast<int32_t>(keys.lengths.size());
  cache c(on, {keys.s.kv_heads, keys.s.head_dim, page_tokens, page_type}, pages_a_row * rows, 5);
  std::vector<int32_t> slots;
  for (int32_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < keys.lengths[static_cast<size_t>(r)]; ++i)
      slots.push_back(slot_of(c.order.data() + r * pages_a_row, i, page_tokens));
  ops::kv_write(on.ex, {.key = on.put(keys.key, keys.type).view(),
                        .value = on.put(keys.value, keys.type).view(),
                        .slots = on.put(slots),
                        .pages = c.pages()});

  const int64_t width = queries.width();
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
    placed& result = on.put(guarded({offsets.back(), queries.s.heads, queries.s.head_dim}), queries.type);
    ops::paged_attention(on.ex, {.out = result.view(),
                                 .query = on.put(rows_of(queries.query, queries, parts, 16), queries.type).view(),
                                 .pages = c.pages(),
                                 .page_table = on.put(table).reshape({static_cast<int64_t>(parts.size()), pages_a_row}),
                                 .row_offsets = on.put(offsets),
                                 .context_lengths = on.put(context),
                                 .causal = false,
                                 .options = both.options});
    const std::vector<float> values = result.values();
    for (size_t i = 0; i < parts.size(); ++i)
      std::copy(values.begin() + offsets[i] * width, values.begin() + offsets[i + 1] * width,
                out.begin() + (queries.offsets[static_cast<size_t>(parts[i].row)] + parts[i].begin) * width);
  }
  return out;
}

// Mostly what models do: pages of the activations' own type; else any.
dtype some_page_type(draw& d, dtype type) {
  return d.integer(0, 2) ? type : d.one_of({dtype::f32, dtype::f16, dtype::bf16});
}

}  // namespace

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

// One query a row over long contexts, which are split and joined again.
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

// Beams: groups of rows of one query that begin with the same pages and go on with their own, and have one source.
// There are enough of them that a GPU takes a group together.
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

// A row that decodes gets the same bits alone and among others, prompts too, and with a longer page table.
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

// Many long rows are cut into larger tiles than one row alone, which changes no result.
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

// The fusion against its parts: queries, and what attention then finds in the pages.
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

// Rows that take a token each, whose keys attention itself turns and stores, after and before steps of other kinds.
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
