// A step while it is composed and until it is settled: its plan, and whose rows they are. Its arrays keep their memory,
// so that a steady step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/plan/step_plan.h"
#include "runtime/scheduler/page_allocator.h"
#include "runtime/scheduler/sampling_composer.h"
#include "runtime/scheduler/scheduled_request.h"

namespace ft::runtime {

class scheduled_step {
 public:
  scheduled_step(const model_limits& limits, int32_t slot) : embedding_size_(limits.embedding_size) {
    plan_.slot = slot;
  }
  // Room for so many rows, pages of each, and tokens.
  void reserve(const model_limits& limits, int64_t rows, int64_t row_pages, int64_t tokens);
  void clear();  // allocates nothing

  // Adds the request's source and takes the pages it needs.
  void add_source(scheduled_request& r, page_allocator& pages);
  // Adds the sequence's `scheduled` next tokens as a row, with the pages they need; asks for the logits that follow
  // when these are its last tokens. A beam whose parent is yet to be chosen takes a page that it may need.
  void add_row(scheduled_request& r, sequence& s, page_allocator& pages);
  // To be called when every row is there: lines up the page tables, and gives each row its place among the logits.
  void finish(const page_allocator& pages, int64_t most_pages, sampling_composer& sampling);

  step_plan& plan() { return plan_; }
  const step_plan& plan() const { return plan_; }
  bool empty() const { return plan_.empty(); }
  // Requests with sources or rows in the step, each once, in order.
  std::span<scheduled_request* const> source_requests() const { return source_requests_; }
  std::span<scheduled_request* const> requests() const { return requests_; }
  // f(request, sequence) for every row.
  template <class F>
  void each_row(F&& f) const {
    for (const row& r : rows_) f(*r.owner, *r.of);
  }
  // f(request, the prompt's token that its scores begin with, span) for every run of scored tokens.
  template <class F>
  void each_scored(F&& f) const {
    for (size_t i = 0; i < scored_.size(); ++i) f(*scored_[i].owner, scored_[i].first, plan_.scored[i]);
  }
  // Tells every sequence which row of the logits is its own. finish() does; to be called again before tokens are chosen
  // when another step has been composed since.
  void hand_out_logits() const {
    for (const row& r : rows_) r.of->logits_row = r.logits_row;
  }

  // Whether condition(request) holds for every request of the step.
  template <class Condition>
  bool all_requests(Condition&& condition) const {
    for (const auto* list : {&source_requests_, &requests_})
      for (const scheduled_request* r : *list)
        if (!condition(*r)) return false;
    return true;
  }
  // Keeps a request of the step, which has finished, until clear().
  void hold(std::shared_ptr<scheduled_request> r) { held_.push_back(std::move(r)); }

 private:
  struct row {
    scheduled_request* owner;
    sequence* of;
    int32_t logits_row;  // -1: none
  };
  struct scored_tokens {
    scheduled_request* owner;
    int64_t first;  // in the prompt
  };

  void add_embedded(embedded_tokens& to, const soft_prompt& soft, int64_t begin, int64_t end,
                    int64_t first_token) const;
  void add_prefix(const scheduled_request& r, const sequence& s, const page_allocator& pages);
  void add_scored(scheduled_request& r, const sequence& s, int64_t first_token);
  void find_groups(int64_t page_tokens);
  void place_logits(sampling_composer& sampling);

  step_plan plan_;
  int64_t embedding_size_;
  std::vector<scheduled_request*> source_requests_, requests_;
  std::vector<row> rows_;
  std::vector<scored_tokens> scored_;
  static constexpr uint8_t no_use = num_logits_uses;
  std::vector<uint8_t> uses_;  // of each row's logits, while they are placed
  std::vector<std::shared_ptr<scheduled_request>> held_;
  bool reorders_beams_ = false;
  int64_t widest_ = 1, widest_source_ = 0;  // of the page tables; 0: rows have no source
};

}  // namespace ft::runtime
