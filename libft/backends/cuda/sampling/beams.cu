// choose_beams and reorder_beams. A block a group merges its beams' tokens, which come sorted: a thread a beam offers
// its best that is left, and the best of these goes on.
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/sampling/ranking.h"
#include "ops/beams.h"

namespace ft::cuda {
namespace {

constexpr int most_beams = 128, token_bits = 24;  // of a group
static_assert(most_beam_tokens == int64_t{1} << token_bits);

// A continuation in the order in which they are wanted: the higher score first, then the earlier beam, then the lower
// token. 0 is none.
__device__ ranked rank_of_choice(float score, int beam, int token) {
  if (!(score > -INFINITY)) return 0;
  return rank_of(score, beam << token_bits | token);
}

__device__ beam_choice choice_of(ranked r) {
  if (r == 0) return {0, 0, -INFINITY};
  const int index = index_of(r);
  return {index & ((1 << token_bits) - 1), static_cast<int>(static_cast<unsigned>(index) >> token_bits), value_of(r)};
}

// One beam's tokens, from which the best is taken again and again.
struct beam_tokens {
  const float* value;
  const int32_t* index;
  int count;
  float highest, log_sum, score;
  int beam;
  const int32_t* stops;
  int num_stops;
  int first = 0;             // those before it are taken
  ranked last = ~ranked{0};  // what was taken last

  __device__ float score_of(int j) const { return __fadd_rn(__fsub_rn(__fsub_rn(value[j], highest), log_sum), score); }

  __device__ ranked choice(int j) const {
    for (int s = 0; s < num_stops; ++s)
      if (stops[s] == index[j]) return 0;
    return rank_of_choice(score_of(j), beam, index[j]);
  }

  // The best that comes after the last one taken. Different logits may give one score, so that tokens of it need not be
  // in order: all of them are looked at.
  __device__ ranked best() {
    ranked found = 0;
    for (int j = first; j < count && index[j] >= 0; ++j) {
      if (found != 0 && score_of(j) < value_of(found)) break;
      if (const ranked c = choice(j); c < last)
        found = max(found, c);
      else if (j == first)
        ++first;
    }
    return found;
  }
};

__global__ void __launch_bounds__(most_beams)
    merge_beams(beam_choice* next, const float* value, const int32_t* index, const float* log_sum, const float* score,
                const int32_t* row, const int32_t* offsets, const int32_t* stops, int k, int num_stops) {
  __shared__ ranked of_warps[most_beams / 32];
  await_previous_kernel();
  const int begin = offsets[blockIdx.x], width = offsets[blockIdx.x + 1] - begin, beam = threadIdx.x;
  beam_tokens tokens{};
  if (beam < width) {
    const int64_t at = begin + beam, first = at * k;
    tokens = {value + first, index + first,  k,    value[first],
              log_sum[at],   score[row[at]], beam, stops + static_cast<int64_t>(blockIdx.x) * num_stops,
              num_stops};
  }
  ranked mine = tokens.best();
  for (int rank = 0; rank < width; ++rank) {
    const ranked best = block_best<most_beams>(mine, of_warps);
    if (best == mine && best != 0) {
      tokens.last = best;
      mine = tokens.best();
    }
    if (threadIdx.x == 0) next[begin + rank] = choice_of(best);
  }
}

// A block a row; as reorder_beams_args names them.
struct reordering {
  int32_t *new_table, *slots, *from, *to, *tokens;
  float* score;
  const int32_t *chosen, *place, *first, *positions, *fresh, *page_table;
  int width, page_tokens;

  __device__ beam_choice choice(int at) const { return {chosen[at], chosen[at + 1], __int_as_float(chosen[at + 2])}; }
  __device__ int parent_of(int row) const { return place[row] < 0 ? row : first[row] + chosen[place[row] + 1]; }
};

__global__ void __launch_bounds__(most_beams) reorder(reordering f) {
  await_previous_kernel();
  const int row = blockIdx.x, parent = f.parent_of(row), position = f.positions[row];
  const int index = position / f.page_tokens, used = position % f.page_tokens;
  const bool follows = f.place[row] >= 0;
  const int sibling =
      f.first[row] + static_cast<int>(threadIdx.x);  // a group has no more of them than the block threads
  const bool copies = __syncthreads_or(follows && sibling < row && f.parent_of(sibling) == parent);
  const int32_t* before = f.page_table + static_cast<int64_t>(parent) * f.width;
  const int shared = before[index], page = follows && (used == 0 || copies) ? f.fresh[row] : shared;
  for (int i = threadIdx.x; i < f.width; i += blockDim.x)
    f.new_table[static_cast<int64_t>(row) * f.width + i] = i == index ? page : before[i];
  if (threadIdx.x != 0) return;
  f.slots[row] = page * f.page_tokens + used;
  f.from[row] = copies ? shared : page;
  f.to[row] = page;
  f.tokens[row] = copies ? used : 0;
  f.score[row] = follows ? f.choice(f.place[row]).score : 0;
}

}  // namespace

void choose_beams(exec& ex, const choose_beams_args& a) {
  launch_kernel(ex, "choose_beams", {grid_size(a.offsets.shape[0] - 1, "choose_beams"), most_beams}, merge_beams,
                a.next.as<beam_choice>(), a.value.as<const float>(), a.index.as<const int32_t>(),
                a.log_sum.as<const float>(), a.score.as<const float>(), a.row.as<const int32_t>(),
                a.offsets.as<const int32_t>(), a.stops.as<const int32_t>(), static_cast<int>(a.value.shape[1]),
                static_cast<int>(a.stops.shape[1]));
}

void reorder_beams(exec& ex, const reorder_beams_args& a) {
  if (a.page_table.shape[0] == 0) return;
  const reordering f{a.new_table.as<int32_t>(),
                     a.slots.as<int32_t>(),
                     a.from.as<int32_t>(),
                     a.to.as<int32_t>(),
                     a.tokens.as<int32_t>(),
                     a.score.as<float>(),
                     a.chosen.as<const int32_t>(),
                     a.place.as<const int32_t>(),
                     a.first.as<const int32_t>(),
                     a.positions.as<const int32_t>(),
                     a.fresh.as<const int32_t>(),
                     a.page_table.as<const int32_t>(),
                     static_cast<int>(a.page_table.shape[1]),
                     static_cast<int>(a.page_tokens)};
  launch_kernel(ex, "reorder_beams", {grid_size(a.page_table.shape[0], "reorder_beams"), most_beams}, reorder, f);
}

}  // namespace ft::cuda
