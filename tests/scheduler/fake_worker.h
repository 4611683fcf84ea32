// Executes step plans without a device: keeps of every page which tokens its keys were computed from, and refuses a
// plan that reads what is not the row's own text, or writes where another reads.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "runtime/plan/plan_check.h"
#include "runtime/plan/step_plan.h"
#include "runtime/plan/step_results.h"

namespace ft::test {

class fake_worker {
 public:
  explicit fake_worker(const runtime::plan_bounds& bounds);

  // Plans are executed in the order in which they are launched, each at once or (`later`) when results are asked for.
  void launch(const runtime::step_plan& plan, bool later);
  // Of bytes that are no plan of the session's, throws ft::error.
  void launch(std::span<const std::byte> bytes, bool later);
  // Good until the slot's next launch.
  runtime::step_results results(int32_t slot);

  int64_t steps() const { return steps_; }
  int64_t tokens() const { return num_tokens_; }
  int64_t replayed_beams() const { return reordered_; }  // rows whose parent was chosen by the step before

 private:
  struct key {
    uint64_t id = 0, chain = 0;
    int32_t position = -1;
    bool is_source = false;
  };
  struct row_tables {
    std::vector<int32_t> pages;  // [rows, width]
    std::vector<int32_t> slots;  // [tokens]
    std::vector<float> scores;   // [rows], of beams
  };
  struct slot_results {
    runtime::sampling_shape shape;
    std::vector<float> whole, prompt_logprobs;
    std::vector<int32_t> chosen;
  };

  void execute(const runtime::step_plan& plan);
  void check_groups(const runtime::step_plan& plan, const std::vector<int32_t>& pages) const;
  void copy_page(int32_t from, int32_t to, int32_t tokens);
  void write(int32_t slot, const key& k);
  void copy_pages(const runtime::step_plan& plan);
  void encode(const runtime::step_plan& plan);
  void write_prefixes(const runtime::step_plan& plan);
  row_tables reorder_beams(const runtime::step_plan& plan);
  void compute_rows(const runtime::step_plan& plan, const row_tables& tables);
  uint64_t read_source(const runtime::step_plan& plan, int64_t row) const;
  void check_context(const runtime::step_plan& plan, const row_tables& tables, int64_t row) const;
  std::span<float> logits_of_token(int32_t token);
  void score_prompts(const runtime::step_plan& plan, slot_results& to);
  void sample(const runtime::step_plan& plan, const row_tables& tables, slot_results& to);

  const key& key_at(std::span<const int32_t> pages, int64_t position) const {
    return keys_[static_cast<size_t>(pages[static_cast<size_t>(position / page_tokens_)] * page_tokens_ +
                                     position % page_tokens_)];
  }

  runtime::plan_bounds bounds_;
  int64_t page_tokens_;
  std::vector<key> keys_;                   // [pages * page_tokens]
  std::vector<int64_t> written_;            // [pages * page_tokens]: the last step that wrote there
  std::vector<int32_t> chosen_;             // what the last step executed chose, where it lies on a device
  std::vector<uint64_t> chains_, sources_;  // [tokens] of the step
  std::vector<float> row_;
  slot_results results_[2];
  runtime::sampling_metadata launched_;  // the last plan's
  std::deque<runtime::step_plan> queue_;
  int64_t steps_ = 0, num_tokens_ = 0, reordered_ = 0;
};

}  // namespace ft::test
