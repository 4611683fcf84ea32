// One row of the running batch: its tokens so far, and the pages that hold their keys and values.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/page_pool.h"

namespace ft::runtime {

struct sequence {
  std::vector<int32_t> tokens;  // prompt and new ones; reserved to the final length
  std::vector<float> logprobs;  // of the new ones, where they are kept
  std::vector<int32_t> pages;   // may be shared with other sequences; reserved to the final length
  int64_t computed = 0;         // tokens whose keys and values are in the cache
  int64_t scheduled = 0;        // tokens that the step under way computes
  int32_t logits_row = -1;      // of the step under way; -1: none
  bool ended = false;

  int64_t length() const { return static_cast<int64_t>(tokens.size()); }

  void reserve(int64_t most_tokens, int64_t most_pages) {
    tokens.reserve(static_cast<size_t>(most_tokens));
    pages.reserve(static_cast<size_t>(most_pages));
  }

  // Becomes a copy that shares the other's pages.
  void fork(const sequence& other, page_pool& pool) {
    FT_CHECK(pages.empty());
    tokens = other.tokens;
    logprobs = other.logprobs;
    pages = other.pages;
    for (int32_t page : pages) pool.share(page);
    computed = other.computed;
    logits_row = other.logits_row;
    ended = other.ended;
  }

  void release_pages(page_pool& pool) {
    for (int32_t page : pages) pool.give_back(page);
    pages.clear();
  }
};

}  // namespace ft::runtime
