// The heart of attention: a tile of queries over the keys of one head.
//
//   1. scores: for each vector of consecutive keys, Kᵀ rows times broadcast query elements, in registers
//   2. bias: by the keys' distances, in models that have one
//   3. softmax: mask, maximum, exponentials and their sum
//   4. output: value rows times broadcast probabilities, in registers
//
// Scores of all the keys a tile sees are kept, so that the maximum is exact and nothing is ever rescaled. That makes
// a query's result the same to the bit whatever tile it is in: a score is summed over head_dim in order; the sum of
// exponentials is taken by key position modulo lanes; an output is summed over keys in order; and the keys that only
// a neighbour in the tile sees add zeros.
#pragma once

#include <cmath>
#include <type_traits>

#include "backends/cpu/isa/kv_view.h"
#include "ops/attention.h"

namespace ft::cpu::FT_ISA {

// Queries of a tile: enough to hide the latency of multiply-adds behind one another, few enough for the registers.
inline constexpr int tile_rows = lanes == 16 ? 8 : 4;

// Elements from one query of a tile to the next: room for head_dim, and no power of two, which would crowd some sets
// of the cache.
inline constexpr int64_t max_head_dim = 512;
inline constexpr int64_t query_stride = max_head_dim + 16;

// Query m, already scaled, sees keys first[m] <= j < last[m].
struct attention_tile {
  const float* queries;  // [rows][query_stride]
  float* out[tile_rows];
  int64_t first[tile_rows];
  int64_t last[tile_rows];
  int64_t position[tile_rows];
  int64_t head[tile_rows];
};

// Keys that some query of the tile sees, and the vectors of keys they lie in.
struct key_range {
  int64_t first, last;
  int64_t begin() const { return first / lanes; }
  int64_t end() const { return (last + lanes - 1) / lanes; }
};

template <int rows>
FT_INLINE key_range range_of(const attention_tile& tile) {
  key_range r{tile.first[0], tile.last[0]};
  for (int m = 1; m < rows; ++m) {
    r.first = tile.first[m] < r.first ? tile.first[m] : r.first;
    r.last = tile.last[m] > r.last ? tile.last[m] : r.last;
  }
  return r;
}

// Scores lie as [vector of keys][rows][lanes]; `scores` is where the range's first vector goes.

template <int rows, int columns, class T>
FT_INLINE void score_columns(const kv_view<T>& kv, const float* queries, int64_t column, float* scores) {
  const T* key[columns];
  for (int c = 0; c < columns; ++c) key[c] = kv.key((column + c) * lanes);
  vec sum[columns][rows];
  for (int c = 0; c < columns; ++c)
    for (int m = 0; m < rows; ++m) sum[c][m] = zero();
  for (int64_t d = 0; d < kv.head_dim; ++d) {
    vec k[columns];
    for (int c = 0; c < columns; ++c) k[c] = load(key[c] + d * kv.page_tokens);
    for (int m = 0; m < rows; ++m) {
      const vec q = broadcast(queries[m * query_stride + d]);
      for (int c = 0; c < columns; ++c) sum[c][m] = fma(k[c], q, sum[c][m]);
    }
  }
  for (int c = 0; c < columns; ++c)
    for (int m = 0; m < rows; ++m) store(scores + (c * rows + m) * lanes, sum[c][m]);
}

template <int rows, class T>
FT_INLINE void score(const kv_view<T>& kv, const float* queries, key_range keys, float* scores) {
  constexpr int columns = rows == 1 ? 8 : rows == 2 || (rows <= 4 && lanes == 16) ? 4 : 2;
  int64_t c = keys.begin();
  for (; c + columns <= keys.end(); c += columns, scores += columns * rows * lanes)
    score_columns<rows, columns>(kv, queries, c, scores);
  for (; c < keys.end(); ++c, scores += rows * lanes) score_columns<rows, 1>(kv, queries, c, scores);
}

// Scores of a vector of keys, the first of them `distance` after the query, with the bias added.
FT_INLINE vec with_alibi(vec x, float slope, int64_t distance) {
  return fma(__builtin_convertvector(iota() + broadcast(static_cast<int32_t>(distance)), vec), broadcast(slope), x);
}

// The same; `centre` points to the bias of distance 0.
FT_INLINE vec with_relative_bias(vec x, const float* centre, int64_t reach, int64_t distance) {
  if (distance >= reach) return x + centre[reach];
  if (distance + lanes - 1 <= -reach) return x + centre[-reach];
  if (distance >= -reach && distance + lanes - 1 <= reach) return x + load(centre + distance);
  vec bias;
  for (int i = 0; i < lanes; ++i) {
    const int64_t at = distance + i;
    bias[i] = centre[at < -reach ? -reach : at > reach ? reach : at];
  }
  return x + bias;
}

// Adds the bias, after the cap, to scores that softmax() is then to cap no more. A pass of its own: what it costs is
// little, and the others need not know of it.
template <int rows>
void add_bias(const attention_tile& tile, key_range keys, const attention_options& options, float* scores) {
  const int64_t reach = options.relative_bias.shape[1] / 2;
  for (int64_t c = keys.begin(); c < keys.end(); ++c)
    for (int m = 0; m < rows; ++m, scores += lanes) {
      const int64_t distance = c * lanes - tile.position[m], head = tile.head[m];
      vec x = load(scores);
      if (options.softcap > 0) x = options.softcap * tanh(x * (1 / options.softcap));
      if (options.alibi_slopes)
        x = with_alibi(x, options.alibi_slopes[head], distance);
      else
        x = with_relative_bias(x, options.relative_bias.as<float>() + head * (2 * reach + 1) + reach, reach, distance);
      store(scores, x);
    }
}

// Turns scores into exponentials of their distance to the maximum; out: one over their sum, for each row.
template <int rows>
FT_INLINE void softmax(const attention_tile& tile, key_range keys, const attention_options& options, float* scores,
                       float (&scale)[rows]) {
  const bool biased = options.alibi_slopes || options.relative_bias;
  if (biased) add_bias<rows>(tile, keys, options, scores);
  const float softcap = biased ? 0 : options.softcap;
  vec largest[rows], sum[rows];
  for (int m = 0; m < rows; ++m) largest[m] = broadcast(-INFINITY), sum[m] = zero();
  float* s = scores;
  for (int64_t c = keys.begin(); c < keys.end(); ++c)
    for (int m = 0; m < rows; ++m, s += lanes) {
      vec x = load(s);
      if (softcap > 0) x = softcap * tanh(x * (1 / softcap));
      const int64_t from = tile.first[m] - c * lanes, to = tile.last[m] - c * lanes;
      if (from > 0 || to < lanes) {
        const ivec lane = iota();
        const auto limit = [](int64_t n) { return broadcast(static_cast<int32_t>(n < 0 ? 0 : n > lanes ? lanes : n)); };
        x = ((lane >= limit(from)) & (lane < limit(to))) ? x : broadcast(-INFINITY);
      }
      largest[m] = max(largest[m], x);
      store(s, x);
    }
  for (int m = 0; m < rows; ++m) largest[m] = broadcast(max(largest[m]));
  s = scores;
  for (int64_t c = keys.begin(); c < keys.end(); ++c)
    for (int m = 0; m < rows; ++m, s += lanes) {
      const vec e = exp(load(s) - largest[m]);
      sum[m] += e;
      store(s, e);
    }
  for (int m = 0; m < rows; ++m) scale[m] = 1 / FT_ISA::sum(sum[m]);
}

// Output elements [d, d + width vectors), the last of which holds `count`.
template <int rows, int width, class T, class Count>
FT_INLINE void output_columns(const kv_view<T>& kv, key_range keys, const float* scores, const float (&scale)[rows],
                              int64_t d, Count count, float* const* out) {
  vec total[rows][width];
  for (int m = 0; m < rows; ++m)
    for (int w = 0; w < width; ++w) total[m][w] = zero();
  for (int64_t c = keys.begin(); c < keys.end(); ++c, scores += rows * lanes) {
    const int64_t base = c * lanes;
    const int64_t from = keys.first > base ? keys.first - base : 0;
    const int64_t to = keys.last - base < lanes ? keys.last - base : lanes;
    const T* value = kv.value(base) + d;
    for (int64_t j = from; j < to; ++j) {
      vec v[width];
      for (int w = 0; w + 1 < width; ++w) v[w] = load(value + j * kv.head_dim + w * lanes);
      v[width - 1] = load(value + j * kv.head_dim + (width - 1) * lanes, count);
      for (int m = 0; m < rows; ++m) {
        const vec p = broadcast(scores[m * lanes + j]);
        for (int w = 0; w < width; ++w) total[m][w] = fma(v[w], p, total[m][w]);
      }
    }
  }
  for (int m = 0; m < rows; ++m) {
    for (int w = 0; w + 1 < width; ++w) store(out[m] + d + w * lanes, total[m][w] * scale[m]);
    store(out[m] + d + (width - 1) * lanes, total[m][width - 1] * scale[m], count);
  }
}

// Output elements [begin, end); begin is a multiple of lanes.
template <int rows, class T>
FT_INLINE void output(const kv_view<T>& kv, key_range keys, const float* scores, const float (&scale)[rows],
                      int64_t begin, int64_t end, float* const* out) {
  constexpr int width = rows <= 4 && lanes == 16 ? 4 : 2;
  int64_t d = begin;
  for (; d + width * lanes <= end; d += width * lanes)
    output_columns<rows, width>(kv, keys, scores, scale, d, whole_vector{}, out);
  for (; d + lanes <= end; d += lanes) output_columns<rows, 1>(kv, keys, scores, scale, d, whole_vector{}, out);
  if (d < end) output_columns<rows, 1>(kv, keys, scores, scale, d, static_cast<int>(end - d), out);
}

// Floats of scratch that a tile needs for its scores when it may see `keys` keys.
inline int64_t score_floats(int64_t keys) { return (keys + 2 * lanes) * tile_rows; }

template <int rows, class T>
void attend_tile(const kv_view<T>& kv, const attention_tile& tile, const attention_options& options, float* scores) {
  const key_range keys = range_of<rows>(tile);
  float scale[rows];
  score<rows>(kv, tile.queries, keys, scores);
  softmax<rows>(tile, keys, options, scores, scale);
  output<rows>(kv, keys, scores, scale, 0, kv.head_dim, tile.out);
}

// body(constant) with constant() the number of rows, 1 <= rows <= tile_rows, at compile time.
template <int most = tile_rows, class Body>
void with_rows(int rows, Body&& body) {
  if (rows == most) return body(std::integral_constant<int, most>{});
  if constexpr (most > 1) with_rows<most - 1>(rows, body);
}

}  // namespace ft::cpu::FT_ISA
