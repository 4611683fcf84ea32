// Drawn problems of attention and the paged cache, as the tests on the CPU and on the GPU share them: sequences that
// are run in any cut into steps, with and without pages.
#pragma once

#include "ops/place.h"

namespace ft::test {

struct shape {
  int64_t heads, kv_heads, head_dim;
};

inline shape some_shape(draw& d) {
  const int64_t kv_heads = d.integer(1, 4), group = d.one_of<int64_t>({1, 1, 2, 3, 4, 7, 8, 9});
  return {kv_heads * group, kv_heads, d.one_of<int64_t>({8, 16, 32, 40, 64, 64, 80, 96, 128, 128, 160, 256, 20, 7})};
}

// `longest` bounds the time that a problem takes: an attention's grows with its square.
inline std::vector<int32_t> some_lengths(draw& d, int64_t rows, int64_t longest = 300) {
  std::vector<int32_t> lengths(static_cast<size_t>(rows));
  for (int32_t& n : lengths) {
    const int64_t drawn = d.one_of<int64_t>({1, 1, 2, 15, 16, 17, 63, 64, 65, 130, d.integer(1, longest)});
    n = static_cast<int32_t>(std::min(drawn, longest));
  }
  return lengths;
}

inline std::vector<int32_t> offsets_of(const std::vector<int32_t>& lengths) {
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
inline drawn_options some_options(draw& d, const shape& s, int64_t longest) {
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

inline guarded rows_of(const guarded& x, const sequences& all, const std::vector<part>& step, int64_t gap) {
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

inline int32_t slot_of(const int32_t* pages, int64_t token, int64_t page_tokens) {
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
inline void run_step(place& on, const sequences& all, const std::vector<part>& step, cache& c, int64_t table_pages,
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

inline std::vector<float> run_whole(place& on, const sequences& all, bool causal, const attention_options& options) {
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
  two_sequences(draw& d, const shape& s, dtype type, int64_t longest = 300)
      : queries(d, s, some_lengths(d, 3, longest), type),
        keys(d, s, some_lengths(d, 3, longest), type),
        options{.scale = 1 / std::sqrt(static_cast<float>(s.head_dim)), .softcap = d.one_of({0.0f, 5.0f})} {}

  sequences queries, keys;
  attention_options options;
};

inline std::vector<float> run_cross(place& on, const two_sequences& both) {
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
inline std::vector<float> run_paged_cross(place& on, const two_sequences& both, dtype page_type, int64_t page_tokens,
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
inline dtype some_page_type(draw& d, dtype type) {
  return d.integer(0, 2) ? type : d.one_of({dtype::f32, dtype::f16, dtype::bf16});
}

}  // namespace ft::test
