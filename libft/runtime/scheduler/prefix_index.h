// Finds pages of keys and values by the tokens they were computed from, so that a request that begins as an earlier one
// did need not compute its beginning again. A page's keys depend on every token up to its last; it is known by its own
// tokens and by the page before it, which is known in the same way. Tokens are compared, not only their hashes: nothing
// that is found can be wrong.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ft::runtime {

class prefix_index {
 public:
  static constexpr int32_t none = -1;

  // Allocates all that it will ever need.
  prefix_index(int64_t num_pages, int64_t page_tokens);

  // The page that holds `tokens` [page_tokens] after the page `parent` (none: at the beginning), or none.
  int32_t find(int32_t parent, std::span<const int32_t> tokens) const;
  // The page must not be in the index, nor another one of the same parent and tokens.
  void insert(int32_t page, int32_t parent, std::span<const int32_t> tokens);
  // No page may have this one as its parent.
  void erase(int32_t page);
  bool contains(int32_t page) const { return entries_[static_cast<size_t>(page)].present; }

 private:
  struct entry {
    int32_t parent = none;
    int32_t next = none;  // of the same bucket
    bool present = false;
  };
  size_t bucket_of(int32_t parent, std::span<const int32_t> tokens) const;
  std::span<const int32_t> tokens_of(int32_t page) const {
    return std::span(tokens_).subspan(static_cast<size_t>(page) * page_tokens_, page_tokens_);
  }

  size_t page_tokens_;
  std::vector<entry> entries_;    // of each page
  std::vector<int32_t> tokens_;   // [pages, page_tokens]
  std::vector<int32_t> buckets_;  // the first page of each; a power of two of them
};

}  // namespace ft::runtime
