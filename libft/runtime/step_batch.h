// The ragged batch of one step, on the host: which tokens of which sequences are computed, where their keys and values
// go, and which rows' logits are wanted. Its arrays keep their memory, so that a steady step allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arch/network.h"
#include "nn/batch.h"
#include "nn/run.h"
#include "runtime/embedded_tokens.h"
#include "runtime/integer_upload.h"
#include "runtime/logit_plan.h"
#include "runtime/page_pool.h"
#include "runtime/request.h"

namespace ft::runtime {

// Whatever decides which kernels a step of single tokens runs and where they read.
struct step_shape {
  int64_t rows = 0;
  int64_t table_width = 0;
  int64_t cross_table_width = 0;
  int64_t groups = 0;
  int64_t widest_group = 0;
  bool follows = false;
  logit_rows logits;
  auto operator<=>(const step_shape&) const = default;
};

class step_batch {
 public:
  step_batch(int64_t embedding_width, int64_t vocab_size) : embedded_(embedding_width), logits_(vocab_size) {}
  void reserve(int64_t rows, int64_t tokens);
  void clear();  // allocates nothing

  // Adds the sequence's `scheduled` next tokens as a row, with the pages they need; asks for the logits that follow
  // when these are its last tokens. A beam whose parent is yet to be chosen takes a page that it may need.
  void add(request& r, sequence& s, page_pool& pool);

  // To be called when every row is there: lines up the page tables, and gives each row its place among the logits.
  void finish(const page_pool& pool, int64_t most_pages);

  bool empty() const { return rows_.empty(); }
  int64_t num_tokens() const { return static_cast<int64_t>(token_ids_.size()); }
  // Requests with rows in the step, each once, in order.
  std::span<request* const> requests() const { return requests_; }
  std::span<sequence* const> rows() const { return rows_; }
  // f(request, sequence) for every row.
  template <class F>
  void each_row(F&& f) const {
    for (size_t row = 0; row < rows_.size(); ++row) f(*owners_[row], *rows_[row]);
  }
  // Its tensors are there after upload().
  const logit_plan& logits() const { return logits_; }
  size_t num_copies() const { return copy_from_.size(); }

  // Tells every sequence which row of the logits is its own. finish() does; to be called again before tokens are chosen
  // when another step has been composed since.
  void hand_out_logits() const;

  // Copies the pages that are about to be written to and are shared.
  void copy_pages(nn::run& run, const page_pool& pool);
  // For beams whose parents the step before has chosen among `chosen` (step_logits.h): finds out their pages and copies
  // those that several go on from.
  void follow_beams(nn::run& run, const page_pool& pool, const tensor& chosen);
  // Writes the prefixes of requests that begin in this step.
  void write_prefixes(nn::run& run, const page_pool& pool) const;
  nn::ragged_batch upload(nn::run& run, const page_pool& pool);
  // [rows] f32 on the device, after upload(): the accumulated log-probabilities of beams; null where none has use.
  const tensor& scores() const { return scores_on_device_; }
  // Whether every row is one token that follows what was computed before: a step that repeats the last one of its
  // shape.
  bool only_decodes() const;
  step_shape shape() const;
  // Gives requests that keep them the log-probabilities of the prompt tokens that follow the step's. hidden
  // [num_tokens, hidden_size] is the network's of this step.
  void score_prompts(nn::run& run, const arch::network& network, const tensor& hidden) const;

 private:
  void find_groups(int64_t page_tokens);
  void place_logits();
  void upload_integers(nn::run& run, nn::ragged_batch& batch);

  std::vector<request*> requests_;
  std::vector<sequence*> rows_;
  std::vector<request*> owners_;  // of each row
  embedded_tokens embedded_;
  std::vector<int32_t> token_ids_, positions_, slots_, page_table_, context_lengths_;
  std::vector<int32_t> row_offsets_{0};
  std::vector<int32_t> cross_page_table_, cross_lengths_;                       // of encoder-decoders
  std::vector<int32_t> group_offsets_, shared_lengths_, cross_shared_lengths_;  // of rows that share keys
  int64_t widest_group_ = 0;                                                    // 0: there are no groups
  std::vector<int32_t> copy_from_, copy_to_, copy_tokens_;
  bool follows_ = false;                        // some row goes on from another that is yet to be chosen:
  std::vector<int32_t> place_, first_, fresh_;  // of each row, as ops/beams.h has them
  std::vector<int32_t> scores_;                 // the bits
  tensor followed_table_, followed_slots_;      // on the device, of these rows
  tensor scores_on_device_;
  std::vector<int32_t> logits_rows_;  // of each row; -1: none
  std::vector<int32_t> staged_;       // what the pages' copies, or beams' next tables, are made of
  integer_upload integers_;           // all else
  logit_plan logits_;
  int64_t widest_ = 1;
  int64_t widest_source_ = 0;  // 0: rows have no source
};

}  // namespace ft::runtime
