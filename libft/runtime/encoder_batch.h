// The sources whose encoder states a step computes, on the host: whole rows, side by side without padding, and the
// pages to which each decoder layer's cross-attention keys and values of them go.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "arch/network.h"
#include "nn/run.h"
#include "runtime/embedded_tokens.h"
#include "runtime/integer_upload.h"
#include "runtime/page_pool.h"
#include "runtime/request.h"

namespace ft::runtime {

class encoder_batch {
 public:
  explicit encoder_batch(int64_t embedding_width) : embedded_(embedding_width) {}
  // So that a request is in the batch, and fails with it, whatever add() then cannot allocate.
  void reserve(int64_t rows) { requests_.reserve(static_cast<size_t>(rows)); }
  void clear();  // allocates nothing

  // Adds the request's source and takes the pages it needs.
  void add(request& r, page_pool& pool);

  bool empty() const { return requests_.empty(); }
  std::span<request* const> requests() const { return requests_; }
  int64_t num_tokens() const { return static_cast<int64_t>(token_ids_.size()); }

  // Runs the encoder and fills the pages.
  void compute(nn::run& run, const arch::network& network, const page_pool& pool);

 private:
  std::vector<request*> requests_;
  embedded_tokens embedded_;
  std::vector<int32_t> token_ids_, positions_, slots_;
  std::vector<int32_t> row_offsets_{0};
  integer_upload integers_;
};

}  // namespace ft::runtime
