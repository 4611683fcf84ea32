// A plan as bytes and back, for a rank that shares no memory with the scheduler. Both sides are of one build: the bytes
// are as the processor has them, and no format for files.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "runtime/plan/forward_plan.h"
#include "runtime/plan/step_plan.h"

namespace ft::runtime {

// Replaces `bytes`, whose memory it uses again.
void write_plan(std::vector<std::byte>& bytes, const step_plan& plan);
void write_plan(std::vector<std::byte>& bytes, const forward_plan& plan);

// Replaces `plan`. Throws ft::error (FT_ERROR_INTERNAL) for bytes that are no plan, or one that contradicts itself
// (plan/plan_check.h, which also knows whether a step's fits a session); then nothing may be done with `plan`.
void read_plan(step_plan& plan, std::span<const std::byte> bytes);
void read_plan(forward_plan& plan, std::span<const std::byte> bytes);

}  // namespace ft::runtime
