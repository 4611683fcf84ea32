#include "arch/networks/positions.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "arch/weights/weight_loader.h"

namespace ft::arch {

// In float32 and in this order, as transformers computes it: distances at a range's very edge fall as its rounding has
// it.
int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t max_distance) {
  int64_t first = 0;
  if (bidirectional) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max<int64_t>(0, -distance);
  }
  const int64_t exact = buckets / 2;
  if (distance < exact) return first + distance;
  const float part = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                     static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact))) *
                     static_cast<float>(buckets - exact);
  return first + std::min(exact + static_cast<int64_t>(part), buckets - 1);
}

nn::parameter load_relative_bias(weight_loader& load, const std::string& name, int64_t num_heads, bool bidirectional,
                                 const positions_config& positions) {
  const int64_t reach = positions.relative_max_distance, distances = 2 * reach + 1;
  const std::vector<float> stored = load.values(name);
  std::vector<float> table(static_cast<size_t>(num_heads * distances));
  for (int64_t i = 0; i < distances; ++i) {
    const int64_t bucket = relative_bucket(i - reach, bidirectional, positions.relative_buckets, reach);
    for (int64_t h = 0; h < num_heads; ++h)
      table[static_cast<size_t>(h * distances + i)] = stored[static_cast<size_t>(bucket * num_heads + h)];
  }
  return load.upload(tensor(table.data(), dtype::f32, {num_heads, distances}));
}

nn::embedding sinusoidal_positions(weight_loader& load, int64_t count, int64_t width) {
  const int64_t half = (width + 1) / 2;
  std::vector<float> table(static_cast<size_t>(count * width));
  for (int64_t p = 0; p < count; ++p)
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(p) / std::pow(10000.0, static_cast<double>(2 * i) / static_cast<double>(width));
      table[static_cast<size_t>(p * width + i)] = static_cast<float>(std::sin(angle));
      if (half + i < width) table[static_cast<size_t>(p * width + half + i)] = static_cast<float>(std::cos(angle));
    }
  return {.table = load.upload(tensor(table.data(), dtype::f32, {count, width}))};
}

}  // namespace ft::arch
