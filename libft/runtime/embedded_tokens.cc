#include "runtime/embedded_tokens.h"

#include <algorithm>

namespace ft::runtime {

// In runs of neighbours.
void embedded_tokens::add(const soft_prompt& soft, int64_t begin, int64_t end, int64_t first_token) {
  const auto& places = soft.positions;
  const auto from = static_cast<size_t>(std::ranges::lower_bound(places, begin) - places.begin());
  const auto to = static_cast<size_t>(std::ranges::lower_bound(places, end) - places.begin());
  const auto width = static_cast<size_t>(width_);
  for (size_t i = from, next; i < to; i = next) {
    next = i + 1;
    while (next < to && places[next] == places[next - 1] + 1) ++next;
    given_.push_back(
        {first_token + places[i] - begin, std::span(soft.embeddings).subspan(i * width, (next - i) * width)});
  }
}

std::span<const nn::embedded_rows> embedded_tokens::upload(nn::run& run) {
  uploaded_.clear();
  for (const given_rows& given : given_) {
    const auto count = static_cast<int64_t>(given.values.size()) / width_;
    const tensor rows = run.activations.make(dtype::f32, {count, width_});
    run.ex.upload(rows.data, given.values.data(), given.values.size_bytes());
    uploaded_.push_back({given.first_token, rows});
  }
  return uploaded_;
}

}  // namespace ft::runtime
