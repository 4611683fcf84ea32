// attention and paged_attention: how a ragged batch is cut into tiles (attention_tile.h) and shared among threads.
//
// The unit of work is a piece of one row's queries for one kv head. The query heads of a kv head's group stand side
// by side in a tile, so that a decode step too reads each key once for all of them.
#include <algorithm>
#include <bit>
#include <span>
#include <utility>

#include "backends/cpu/isa/attention_tile.h"
#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/parallel.h"
#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::FT_ISA {
namespace {

// What both operations have in common.
struct problem {
  const tensor& query;
  const tensor& out;
  const attention_options& options;
  bool causal;
  int64_t group;  // query heads a kv head
  int64_t heads = query.shape[1];
  int64_t head_dim = query.shape[2];
};

// Tokens [begin, end) of the batch, which lie in row `row`; the first is at `position` of the row's `length` keys
// (of no meaning where these are another sequence's).
struct query_piece {
  int64_t row;
  int64_t begin, end;
  int64_t position;
  int64_t length;
};

// Keys that the query at `position` sees.
key_range visible(const problem& p, int64_t position, int64_t length) {
  const int64_t window = p.options.window;
  return {window > 0 ? std::max<int64_t>(0, position - window + 1) : 0, p.causal ? position + 1 : length};
}

// One thread's memory: a tile's queries and its scores.
struct workspace {
  float* queries;
  float* scores;

  static int64_t floats(int64_t keys) { return tile_rows * query_stride + score_floats(keys); }
  explicit workspace(float* memory) : queries(memory), scores(memory + tile_rows * query_stride) {}
};

// Queries i, i + 1 .. of the piece's that share kv head `head`, as many as a tile takes; returns how many.
int fill_tile(const problem& p, const query_piece& piece, int64_t head, int64_t i, float* queries,
              attention_tile& tile) {
  const int64_t left = (piece.end - piece.begin) * p.group - i;
  const int rows = static_cast<int>(std::min<int64_t>(tile_rows, left));
  tile.queries = queries;
  for (int m = 0; m < rows; ++m) {
    const int64_t t = (i + m) / p.group, h = head * p.group + (i + m) % p.group;
    const float* query = p.query.as<float>() + (piece.begin + t) * p.query.stride[0] + h * p.query.stride[1];
    float* scaled = queries + m * query_stride;
    for_vectors(p.head_dim, [&](int64_t d, auto n) { store(scaled + d, load(query + d, n) * p.options.scale, n); });
    const key_range keys = visible(p, piece.position + t, piece.length);
    tile.first[m] = keys.first;
    tile.last[m] = keys.last;
    tile.position[m] = piece.position + t;
    tile.head[m] = h;
    tile.out[m] = p.out.as<float>() + ((piece.begin + t) * p.heads + h) * p.head_dim;
  }
  return rows;
}

// All queries of the piece that share kv head `head`, tile by tile.
template <class T>
void attend_piece(const problem& p, const query_piece& piece, int64_t head, const kv_view<T>& kv, workspace work) {
  const int64_t count = (piece.end - piece.begin) * p.group;
  attention_tile tile;
  for (int64_t i = 0; i < count; i += tile_rows)
    with_rows(fill_tile(p, piece, head, i, work.queries, tile),
              [&](auto rows) { attend_tile<rows()>(kv, tile, p.options, work.scores); });
}

// The keys that a piece's queries see between them, from a whole page granule on.
key_range visible(const problem& p, const query_piece& piece) {
  const int64_t first = visible(p, piece.position, piece.length).first;
  return {first / page_granule * page_granule,
          visible(p, piece.position + (piece.end - piece.begin) - 1, piece.length).last};
}

// Cuts every row's queries into pieces of at most `tokens`. length_of(row) is how many keys the row has.
template <class Length>
std::span<query_piece> cut(arena& scratch, const tensor& row_offsets, int64_t tokens, Length length_of) {
  const int32_t* offsets = row_offsets.as<int32_t>();
  const int64_t rows = row_offsets.shape[0] - 1;
  int64_t count = 0;
  for (int64_t r = 0; r < rows; ++r) count += (offsets[r + 1] - offsets[r] + tokens - 1) / tokens;
  query_piece* pieces = scratch.make<query_piece>(count);
  int64_t i = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t length = length_of(r), end = offsets[r + 1];
    for (int64_t t = offsets[r]; t < end; t += tokens)
      pieces[i++] = {r, t, std::min(t + tokens, end), length - (end - t), length};
  }
  return {pieces, static_cast<size_t>(count)};
}

struct work_size {
  int64_t most_keys = 0;  // that one piece sees
  int64_t cost = 0;       // of an average piece and one kv head, as share() counts
};

work_size measure(const problem& p, std::span<const query_piece> pieces) {
  work_size size;
  for (const query_piece& piece : pieces) {
    const key_range keys = visible(p, piece);
    size.most_keys = std::max(size.most_keys, keys.last);
    size.cost += (piece.end - piece.begin) * (keys.last - keys.first) * p.group * (p.head_dim + 16) / 2;
  }
  size.cost /= std::max<int64_t>(1, static_cast<int64_t>(pieces.size()));
  return size;
}

// Scratch grows by doubling, so that a growing context seldom asks for more.
int64_t room_for(int64_t keys) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(keys, 256))));
}

// body(piece, head, memory) for every piece and kv head, with `floats` floats of memory a thread.
template <class Body>
void share_pieces(exec& ex, std::span<const query_piece> pieces, int64_t kv_heads, int64_t cost, int64_t floats,
                  Body&& body) {
  floats = (floats + 15) / 16 * 16;
  float* memory = ex.scratch.make<float>(threads_of(ex) * floats);
  share(ex, static_cast<int64_t>(pieces.size()) * kv_heads, cost, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t i = begin; i < end; ++i) body(pieces[i / kv_heads], i % kv_heads, memory + worker * floats);
  });
}

// Copies what a piece sees of one head's keys and values into pages of its own.
kv_view<float> pack(const attention_args& a, int64_t row_begin, key_range keys, int64_t head, float* to, int64_t room) {
  const int64_t head_dim = a.key.shape[2];
  float* packed_keys = to;
  float* packed_values = to + room * head_dim;
  const float* key = a.key.as<float>() + row_begin * a.key.stride[0] + head * a.key.stride[1];
  const float* value = a.value.as<float>() + row_begin * a.value.stride[0] + head * a.value.stride[1];
  for (int64_t t = keys.first; t < keys.last; t += lanes)
    write_key_columns(key + t * a.key.stride[0], a.key.stride[0], std::min<int64_t>(lanes, keys.last - t), head_dim,
                      packed_keys + t / page_granule * page_granule * head_dim + t % page_granule, page_granule);
  for (int64_t t = keys.first; t < keys.last; ++t)
    for_vectors(head_dim, [&](int64_t d, auto n) {
      store(packed_values + t * head_dim + d, load(value + t * a.value.stride[0] + d, n), n);
    });
  return {packed_keys, packed_values, nullptr, page_granule * head_dim, page_granule, head_dim};
}

// A tile whose work is shared among threads.
template <class T>
struct shared_tile {
  kv_view<T> kv;
  attention_tile tile;
  int rows;
  key_range keys;
  float* scores;
  float scale[tile_rows];
};

// The part [begin, end) of `size` things that falls to thread `i` of `threads`, in steps of `step`.
std::pair<int64_t, int64_t> part_of(int64_t size, int64_t step, int64_t i, int64_t threads) {
  const int64_t each = ((size + step - 1) / step + threads - 1) / threads * step;
  return {std::min(size, i * each), std::min(size, (i + 1) * each)};
}

// A decode step over long contexts with fewer kv heads than keep the threads busy: scores are shared out by keys, then
// softmax by tiles, then outputs by elements of head_dim, so that every sum is taken in the same order as ever.
template <class T, class View>
void attend_together(exec& ex, const problem& p, std::span<const query_piece> pieces, int64_t kv_heads, View view) {
  const int64_t threads = threads_of(ex);
  int64_t count = 0;
  for (const query_piece& piece : pieces)
    count += kv_heads * (((piece.end - piece.begin) * p.group + tile_rows - 1) / tile_rows);
  auto* tiles = ex.scratch.make<shared_tile<T>>(count);
  int64_t n = 0;
  for (const query_piece& piece : pieces)
    for (int64_t head = 0; head < kv_heads; ++head)
      for (int64_t i = 0; i < (piece.end - piece.begin) * p.group; i += tile_rows) {
        shared_tile<T>& t = tiles[n++];
        const workspace work(ex.scratch.make<float>(workspace::floats(room_for(visible(p, piece).last))));
        t.kv = view(piece, head);
        t.rows = fill_tile(p, piece, head, i, work.queries, t.tile);
        t.scores = work.scores;
        with_rows(t.rows, [&](auto rows) { t.keys = range_of<rows()>(t.tile); });
      }

  const auto share_parts = [&](auto&& body) {
    ex.pool->parallel_for(count * threads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        with_rows(tiles[i / threads].rows, [&](auto rows) { body(tiles[i / threads], rows, i % threads); });
    });
  };
  share_parts([&](shared_tile<T>& t, auto rows, int64_t i) {
    const auto [begin, end] = part_of(t.keys.end() - t.keys.begin(), 8, i, threads);
    const int64_t first = (t.keys.begin() + begin) * lanes, last = (t.keys.begin() + end) * lanes;
    score<rows()>(t.kv, t.tile.queries, {first, last}, t.scores + begin * rows() * lanes);
  });
  ex.pool->parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      with_rows(tiles[i].rows, [&](auto rows) {
        float scale[rows()];
        softmax<rows()>(tiles[i].tile, tiles[i].keys, p.options, tiles[i].scores, scale);
        std::copy_n(scale, rows(), tiles[i].scale);
      });
  });
  share_parts([&](shared_tile<T>& t, auto rows, int64_t i) {
    const auto [begin, end] = part_of(p.head_dim, lanes, i, threads);
    float scale[rows()];
    std::copy_n(t.scale, rows(), scale);
    output<rows()>(t.kv, t.keys, t.scores, scale, begin, end, t.tile.out);
  });
}

// Whether the threads that would stand idle at the end are worth three hand-overs.
bool worth_sharing(const exec& ex, int64_t units, int64_t cost) {
  const int64_t threads = threads_of(ex);
  const int64_t idle = (units + threads - 1) / threads * threads - units;
  return threads > 1 && units < 4 * threads && cost * idle / threads > 8 * worthwhile;
}

template <class T>
void attend_pages(exec& ex, const paged_attention_args& a) {
  const kv_layout& layout = a.pages.layout;
  const problem p{a.query, a.out, a.options, a.causal, a.query.shape[1] / layout.num_kv_heads};
  // A few tiles a piece: enough pieces to go round, and the keys stay in the cache between the tiles.
  const int64_t piece_tokens = std::max<int64_t>(1, 8 * tile_rows / p.group);
  const int32_t* lengths = a.context_lengths.as<int32_t>();
  arena::scope scope(ex.scratch);
  const auto pieces = cut(ex.scratch, a.row_offsets, piece_tokens, [&](int64_t row) { return lengths[row]; });
  const work_size size = measure(p, pieces);
  const auto view = [&](const query_piece& piece, int64_t head) {
    const int64_t head_elements = layout.page_tokens * layout.head_dim;
    return kv_view<T>{static_cast<const T*>(a.pages.keys) + head * head_elements,
                      static_cast<const T*>(a.pages.values) + head * head_elements,
                      a.page_table.as<int32_t>() + piece.row * a.page_table.stride[0],
                      head_elements * layout.num_kv_heads,
                      layout.page_tokens,
                      layout.head_dim};
  };
  const int64_t units = static_cast<int64_t>(pieces.size()) * layout.num_kv_heads;
  if (worth_sharing(ex, units, size.cost)) return attend_together<T>(ex, p, pieces, layout.num_kv_heads, view);
  share_pieces(ex, pieces, layout.num_kv_heads, size.cost, workspace::floats(room_for(size.most_keys)),
               [&](const query_piece& piece, int64_t head, float* memory) {
                 attend_piece(p, piece, head, view(piece, head), workspace(memory));
               });
}

}  // namespace

void attention(exec& ex, const attention_args& a) {
  const int64_t kv_heads = a.key.shape[1], head_dim = a.key.shape[2];
  if (head_dim > max_head_dim) return ref::attention(ex, a);
  const problem p{a.query, a.out, a.options, a.causal, a.query.shape[1] / kv_heads};
  constexpr int64_t piece_tokens = 256;  // packing keys costs as much as attending to them with some ten queries
  const int32_t* key_offsets = (a.key_row_offsets ? a.key_row_offsets : a.row_offsets).as<int32_t>();
  arena::scope scope(ex.scratch);
  const auto pieces = cut(ex.scratch, a.row_offsets, piece_tokens,
                          [&](int64_t row) { return key_offsets[row + 1] - key_offsets[row]; });
  const work_size size = measure(p, pieces);
  const int64_t room = room_for(size.most_keys), work = workspace::floats(room);
  share_pieces(ex, pieces, kv_heads, size.cost, work + 2 * room * head_dim,
               [&](const query_piece& piece, int64_t head, float* memory) {
                 const auto kv = pack(a, key_offsets[piece.row], visible(p, piece), head, memory + work, room);
                 attend_piece(p, piece, head, kv, workspace(memory));
               });
}

void paged_attention(exec& ex, const paged_attention_args& a) {
  const kv_layout& layout = a.pages.layout;
  if (layout.head_dim > max_head_dim || layout.page_tokens % page_granule) return ref::paged_attention(ex, a);
  if (layout.type == dtype::f16) return attend_pages<f16>(ex, a);
  if (layout.type == dtype::bf16) return attend_pages<bf16>(ex, a);
  attend_pages<float>(ex, a);
}

}  // namespace ft::cpu::FT_ISA
