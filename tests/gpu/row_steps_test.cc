// Which numbers of rows share an algorithm: exact where few, never fewer than asked for, a few percent more at most.
#include "backends/cuda/gemm/cublas_lt/row_steps.h"

#include <set>

#include "check.h"

using ft::cuda::rows_of_step;

TEST(numbers_of_rows_share_algorithms_in_steps) {
  for (int64_t rows = 1; rows <= 128; ++rows) CHECK_EQ(rows_of_step(rows), rows);
  std::set<int64_t> steps;
  for (int64_t rows = 129, before = 128; rows <= 40000; ++rows) {
    const int64_t step = rows_of_step(rows);
    CHECK(step >= rows && step >= before);
    CHECK(static_cast<double>(step) <= 1.063 * static_cast<double>(rows));
    CHECK_EQ(rows_of_step(step), step);
    steps.insert(step);
    before = step;
  }
  for (int64_t power = 256; power <= 32768; power *= 2) CHECK_EQ(rows_of_step(power), power);
  CHECK(steps.size() < 140);
}
