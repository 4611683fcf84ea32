#include "gpu/compare.h"

#include <cstdlib>

namespace ft::test {
namespace {

double worst_share = 0;

}  // namespace

uint64_t run_seed() {
  static const uint64_t seed = [] {
    if (const char* given = std::getenv("FT_TEST_SEED"))
      return static_cast<uint64_t>(std::strtoull(given, nullptr, 10));
    return static_cast<uint64_t>(std::random_device()()) % 1000000;
  }();
  return seed;
}

double take_worst_share() { return std::exchange(worst_share, 0); }

void compare_with_reference(const char* op, int draws, const bounds& b,
                            const std::function<placed_problem(draw&, dtype)>& make) {
  for (int i = 0; i < draws; ++i)
    for (dtype type : {dtype::f32, dtype::f16, dtype::bf16}) {
      draw d(run_seed() * 1000 + static_cast<uint64_t>(i));
      const placed_problem problem = make(d, type);
      place on_cpu(reference().ex, true), on_gpu(gpu(), false);
      const std::vector<float> want = problem(on_cpu), got = problem(on_gpu);
      gpu().scratch.reset();
      const bound limit = b.of(type);
      for (size_t k = 0; k < std::min(got.size(), want.size()); ++k) {
        const double allowed = limit.absolute + limit.relative * std::fabs(want[k]);
        if (allowed > 0) worst_share = std::fmax(worst_share, std::fabs(double{got[k]} - want[k]) / allowed);
      }
      expect_close(got, want, limit, cat(op, ", draw ", i, ", ", name(type)));
    }
}

}  // namespace ft::test
