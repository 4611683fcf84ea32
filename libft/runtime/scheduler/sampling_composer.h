// Puts together what a step wants of its logits (plan/sampling_metadata.h) from what its requests need.
#pragma once

#include <cstdint>
#include <vector>

#include "decode/processors.h"
#include "runtime/plan/sampling_metadata.h"
#include "runtime/scheduler/scheduled_request.h"

namespace ft::runtime {

class sampling_composer {
 public:
  explicit sampling_composer(int64_t vocab_size) : editor_(vocab_size) {}
  void reserve(int64_t rows) { searches_.reserve(static_cast<size_t>(rows)); }

  // One step's rows between begin() and finish(): add() all of a use, and the uses in their order. `row` of the step
  // has `token` as its last. Returns the row's place.
  void begin(sampling_metadata& to);
  int32_t add(logits_use use, const scheduled_request& r, const sequence& s, int32_t row, int32_t token);
  void finish();

 private:
  void list_stops();

  sampling_metadata* to_ = nullptr;
  bool has_late_edits_ = false;
  decode::logit_editor editor_;
  std::vector<const scheduled_request*> searches_;  // whose beams the groups are
};

}  // namespace ft::runtime
