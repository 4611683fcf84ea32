// A model without weights: the logits that follow a sequence are a function of all its tokens, by hashes that chain
// them. Whatever is lost, doubled or taken from another sequence on the way gives other logits.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace ft::test {

inline uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = (a ^ std::rotl(b, 32)) + 0x9e3779b97f4a7c15u + b;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

struct fake_model {
  static constexpr int32_t vocab = 40, encoder_vocab = 50, embedding_size = 2;
  static constexpr uint64_t empty = 11;  // what comes before the first token

  static uint64_t id_of(int32_t token) { return mix(1, static_cast<uint32_t>(token)); }
  static uint64_t id_of(std::span<const float> embedding) {
    uint64_t id = 2;
    for (float x : embedding) id = mix(id, std::bit_cast<uint32_t>(x));
    return id;
  }
  // Of a prefix [1 layer, 2, 1 head, length, 1 element].
  static uint64_t id_of_prefix(std::span<const float> prefix, int64_t position) {
    const auto at = static_cast<size_t>(position);
    const float both[] = {prefix[at], prefix[prefix.size() / 2 + at]};
    return id_of(both);
  }
  static uint64_t next(uint64_t chain, uint64_t id) { return mix(chain, id); }

  // Some rows have many equal logits. `source` is the chain of all that an encoder has read; 0: there is none.
  static void logits(uint64_t chain, uint64_t source, std::span<float> row) {
    const uint64_t seed = mix(chain, source);
    const bool rounds = seed % 8 == 0;
    for (size_t i = 0; i < row.size(); ++i) {
      const auto x = static_cast<float>(mix(seed, i) >> 40) * 0x1p-24f * 8 - 4;
      row[i] = rounds ? std::round(x) : x;
    }
  }

  static float log_sum(std::span<const float> row, float highest, float temperature = 1) {
    double sum = 0;
    for (float x : row)
      if (x == x) sum += std::exp(double{x / temperature} - double{highest / temperature});
    return static_cast<float>(std::log(sum));
  }
  // To the bit what follows from a row's highest value and its log_sum.
  static void log_softmax(std::span<float> row) {
    const float highest = *std::ranges::max_element(row), sum = log_sum(row, highest);
    for (float& x : row) x = x - highest - sum;
  }
};

}  // namespace ft::test
