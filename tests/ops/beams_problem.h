// Drawn problems of beam search's operations, as the tests on the CPU and on the GPU share them.
#pragma once

#include <tuple>

#include "ops/beams.h"
#include "ops/harness.h"

namespace ft::test {

// Groups of beams with candidates as top_k leaves them, among which many have equal scores.
struct beams_problem {
  explicit beams_problem(draw& d) : k(d.one_of<int64_t>({1, 2, 8, 32, 64})), num_stops(d.one_of<int64_t>({1, 4})) {
    for (int64_t groups = d.integer(1, 5); groups > 0; --groups)
      offsets.push_back(offsets.back() + static_cast<int32_t>(d.one_of<int64_t>({1, 2, 4, 7, 40, 128})));
    const auto n = static_cast<size_t>(offsets.back());
    for (size_t i = 0; i < n; ++i) row.push_back(static_cast<int32_t>(n - 1 - i));
    const bool few_scores = d.coin();
    for (size_t i = 0; i < n; ++i) {
      score.push_back(d.integer(0, 9) == 0 ? -INFINITY : few_scores ? -1000 : 50 * d.normal());
      log_sum.push_back(std::fabs(d.normal()));
      std::vector<std::pair<float, int32_t>> best;  // the value's negative, which sorts as top_k does
      for (int32_t token = 0; token < k; ++token)
        best.emplace_back(few_scores ? std::round(d.normal()) : d.normal(), 3 * token);
      std::ranges::sort(best);
      for (const auto& [negative, token] : best) value.push_back(-negative), index.push_back(token);
      if (d.integer(0, 4) == 0) value.back() = -INFINITY, index.back() = -1;
    }
    for (size_t i = 0; i < (offsets.size() - 1) * static_cast<size_t>(num_stops); ++i)
      stops.push_back(static_cast<int32_t>(d.integer(-1, k)));
  }

  choose_beams_args choose(beam_choice* next) const {
    const auto n = static_cast<int64_t>(row.size()), groups = static_cast<int64_t>(offsets.size()) - 1;
    const auto floats = [](const std::vector<float>& v, std::initializer_list<int64_t> shape) {
      return tensor(const_cast<float*>(v.data()), dtype::f32, shape);
    };
    return {.next = tensor(next, dtype::i32, {n, beam_choice_size}),
            .value = floats(value, {n, k}),
            .index = vector_of(index).reshape({n, k}),
            .log_sum = floats(log_sum, {n}),
            .score = floats(score, {n}),
            .row = vector_of(row),
            .offsets = vector_of(offsets),
            .stops = vector_of(stops).reshape({groups, num_stops})};
  }

  beam_choice continuation(int32_t beam, int64_t j, int32_t parent) const {
    const auto i = static_cast<size_t>(beam), first = i * static_cast<size_t>(k), at = first + static_cast<size_t>(j);
    if (index[at] < 0) return {0, 0, -INFINITY};
    return {index[at], parent, value[at] - value[first] - log_sum[i] + score[static_cast<size_t>(row[i])]};
  }

  bool stops_with(size_t group, int32_t token) const {
    const auto first = stops.begin() + static_cast<int64_t>(group) * num_stops;
    return std::find(first, first + num_stops, token) != first + num_stops;
  }

  int64_t k, num_stops;
  std::vector<int32_t> offsets{0}, row, index, stops;
  std::vector<float> value, log_sum, score;
};

// What reorder_beams gives.
struct reordered {
  reordered(size_t rows, size_t width)
      : new_table(rows * width, -7), slots(rows, -7), from(rows, -7), to(rows, -7), tokens(rows, -7), score(rows, 7) {}

  reorder_beams_args args(const std::vector<int32_t>& chosen, const std::vector<int32_t>& place,
                          const std::vector<int32_t>& first, const std::vector<int32_t>& positions,
                          const std::vector<int32_t>& fresh, const std::vector<int32_t>& table, int64_t page_tokens) {
    const auto rows = static_cast<int64_t>(place.size()), width = static_cast<int64_t>(table.size()) / rows;
    return {.new_table = vector_of(new_table).reshape({rows, width}),
            .slots = vector_of(slots),
            .from = vector_of(from),
            .to = vector_of(to),
            .tokens = vector_of(tokens),
            .score = tensor(score.data(), dtype::f32, {rows}),
            .chosen = vector_of(chosen),
            .place = vector_of(place),
            .first = vector_of(first),
            .positions = vector_of(positions),
            .fresh = vector_of(fresh),
            .page_table = vector_of(table).reshape({rows, width}),
            .page_tokens = page_tokens};
  }

  std::vector<int32_t> new_table, slots, from, to, tokens;
  std::vector<float> score;
};

}  // namespace ft::test
