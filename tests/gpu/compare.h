// The GPU against the CPU's reference, on problems drawn anew in each run.
#pragma once

#include "gpu/device.h"
#include "ops/place.h"

namespace ft::test {

// How far a result in each dtype may be from the reference's.
struct bounds {
  bound f32, f16, bf16;
  bound of(dtype type) const { return type == dtype::f32 ? f32 : type == dtype::f16 ? f16 : bf16; }
};

// Draws problems, in every dtype in turn, and compares the GPU with the reference.
void compare_with_reference(const char* op, int draws, const bounds& b,
                            const std::function<placed_problem(draw&, dtype)>& make);

// The seed of this run's draws, new each time; FT_TEST_SEED repeats one.
uint64_t run_seed();

// The largest share of its bound that any element used since the last call.
double take_worst_share();

}  // namespace ft::test
