// choose_beams and reorder_beams, every level's: they look at a few numbers a row.
#include <algorithm>
#include <cmath>
#include <span>

#include "backends/cpu/ref/ref_ops.h"

namespace ft::cpu::ref {
namespace {

const beam_choice& choice_at(const tensor& chosen, int32_t place) {
  return *reinterpret_cast<const beam_choice*>(chosen.as<int32_t>() + place);
}

}  // namespace

void choose_beams(exec& ex, const choose_beams_args& a) {
  const int64_t k = a.value.shape[1], num_stops = a.stops.shape[1];
  for (int64_t group = 0; group + 1 < a.offsets.shape[0]; ++group) {
    const int32_t begin = a.offsets.as<int32_t>()[group], end = a.offsets.as<int32_t>()[group + 1];
    const std::span stops(a.stops.as<int32_t>() + group * num_stops, static_cast<size_t>(num_stops));
    arena::scope scope(ex.scratch);
    auto* found = ex.scratch.make<beam_choice>((end - begin) * (k + 1));
    auto* found_end = std::fill_n(found, end - begin, beam_choice{0, 0, -INFINITY});
    for (int32_t i = begin; i < end; ++i) {
      const float* value = a.value.as<float>() + i * k;
      const float score = a.score.as<float>()[a.row.as<int32_t>()[i]];
      for (int64_t j = 0; j < k; ++j) {
        const beam_choice c{a.index.as<int32_t>()[i * k + j], i - begin,
                            value[j] - value[0] - a.log_sum.as<float>()[i] + score};
        if (c.token >= 0 && c.score > -INFINITY && std::ranges::find(stops, c.token) == stops.end()) *found_end++ = c;
      }
    }
    std::sort(found, found_end, [](const beam_choice& x, const beam_choice& y) {
      if (x.score != y.score) return x.score > y.score;
      return x.parent != y.parent ? x.parent < y.parent : x.token < y.token;
    });
    std::copy_n(found, end - begin, a.next.as<beam_choice>() + begin);
  }
}

void reorder_beams(exec&, const reorder_beams_args& a) {
  const int64_t rows = a.page_table.shape[0], width = a.page_table.shape[1];
  const auto page_tokens = static_cast<int32_t>(a.page_tokens);
  const auto *place = a.place.as<int32_t>(), *first = a.first.as<int32_t>(), *fresh = a.fresh.as<int32_t>();
  const auto parent_of = [&](int64_t row) {
    return place[row] < 0 ? row : first[row] + choice_at(a.chosen, place[row]).parent;
  };
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t parent = parent_of(row);
    const int32_t position = a.positions.as<int32_t>()[row], used = position % page_tokens;
    const int32_t* before = a.page_table.as<int32_t>() + parent * width;
    int32_t* now = a.new_table.as<int32_t>() + row * width;
    std::copy_n(before, width, now);
    int32_t& page = now[position / page_tokens];
    const int32_t shared = page;
    bool copies = false;
    if (place[row] >= 0) {
      for (int64_t sibling = first[row]; sibling < row; ++sibling) copies |= parent_of(sibling) == parent;
      if (used == 0 || copies) page = fresh[row];
    }
    a.slots.as<int32_t>()[row] = page * page_tokens + used;
    a.from.as<int32_t>()[row] = copies ? shared : page;
    a.to.as<int32_t>()[row] = page;
    a.tokens.as<int32_t>()[row] = copies ? used : 0;
    a.score.as<float>()[row] = place[row] < 0 ? 0 : choice_at(a.chosen, place[row]).score;
  }
}

}  // namespace ft::cpu::ref
