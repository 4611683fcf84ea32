// The tokens of a step whose embeddings callers give (soft prompts), gathered on the host and brought to the device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nn/batch.h"
#include "nn/run.h"
#include "runtime/soft_prompt.h"

namespace ft::runtime {

class embedded_tokens {
 public:
  explicit embedded_tokens(int64_t width) : width_(width) {}
  void clear() { given_.clear(); }
  bool empty() const { return given_.empty(); }

  // Adds those of the prompt's positions from `begin` to `end` that have an embedding; `begin` is the step's token
  // `first_token`.
  void add(const soft_prompt& soft, int64_t begin, int64_t end, int64_t first_token);

  // In the run's activations; valid until the next call.
  std::span<const nn::embedded_rows> upload(nn::run& run);

 private:
  struct given_rows {  // on the host
    int64_t first_token;
    std::span<const float> values;
  };
  int64_t width_;
  std::vector<given_rows> given_;
  std::vector<nn::embedded_rows> uploaded_;
};

}  // namespace ft::runtime
