// One row of the running batch: its tokens so far, and the pages that hold their keys and values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "core/status.h"
#include "runtime/scheduler/page_allocator.h"

namespace ft::runtime {

struct sequence {
  std::vector<int32_t> tokens;  // prompt and new ones; reserved to the final length
  std::vector<float> logprobs;  // of the new ones, where they are kept
  std::vector<int32_t> pages;   // may be shared with other sequences; reserved to the final length
  int32_t chosen_at = -1;       // where the device leaves the token behind them, which is yet to be read; -1: none is
  int32_t fresh_page = -1;      // of a beam: for the token behind these, where the device needs one (reorder_beams)
  int64_t computed = 0;         // tokens whose keys and values are in the cache when the steps under way are done
  int64_t kept = 0;             // the first pages, which the allocator keeps for other requests too
  int64_t scheduled = 0;        // tokens that the step being composed computes
  int32_t logits_row = -1;      // of the step whose tokens are being chosen; -1: none
  bool ended = false;

  int64_t known() const { return static_cast<int64_t>(tokens.size()); }
  int64_t length() const { return known() + (chosen_at >= 0); }

  // As ops/embedding.h takes it; an embedding stands for a token -1.
  int32_t id_of(int64_t index) const {
    return index < known() ? std::max(0, tokens[static_cast<size_t>(index)]) : -1 - chosen_at;
  }

  void reserve(int64_t most_tokens, int64_t most_pages) {
    tokens.reserve(static_cast<size_t>(most_tokens));
    pages.reserve(static_cast<size_t>(most_pages));
  }

  // Becomes a copy that shares the other's pages.
  void fork(const sequence& other, page_allocator& pool) {
    FT_CHECK(pages.empty());
    tokens = other.tokens;
    logprobs = other.logprobs;
    pages = other.pages;
    for (int32_t page : pages) pool.share(page);
    computed = other.computed;
    kept = other.kept;
    logits_row = other.logits_row;
    ended = other.ended;
  }

  // Goes on from the pages that hold the next tokens already, up to `limit` tokens; returns how many these were.
  int64_t reuse_pages(page_allocator& pool, int64_t limit) {
    const int64_t before = computed, page_tokens = pool.page_tokens();
    while ((kept + 1) * page_tokens <= limit) {
      const int32_t page = pool.find(last_kept(), page_of(kept, page_tokens));
      if (page == prefix_index::none) break;
      adopt(page, pool);
      computed = std::max(computed, kept * page_tokens);
    }
    return computed - before;
  }

  // How many pages that hold the next tokens already there are up to `limit` tokens, and how many of them no request
  // has pinned.
  struct known_pages {
    int64_t count = 0, unpinned = 0;
  };
  known_pages find_pages(const page_allocator& pool, int64_t limit) const {
    known_pages found;
    const int64_t page_tokens = pool.page_tokens();
    for (int32_t page = last_kept(); (kept + found.count + 1) * page_tokens <= limit; ++found.count) {
      page = pool.find(page, page_of(kept + found.count, page_tokens));
      if (page == prefix_index::none) break;
      found.unpinned += !pool.pinned(page);
    }
    return found;
  }

  // Lets the allocator keep the pages that are full of known tokens by now. Where it has one of the same tokens, which
  // holds the same to the bit, that one is used from now on: whoever holds a kept page thus holds all kept ones before
  // it.
  void keep_pages(page_allocator& pool) {
    const int64_t page_tokens = pool.page_tokens();
    while ((kept + 1) * page_tokens <= std::min(computed, known())) {
      const auto held = page_of(kept, page_tokens);
      const int32_t same = pool.find(last_kept(), held);
      if (same != prefix_index::none) {
        adopt(same, pool);
        continue;
      }
      pool.keep(pages[static_cast<size_t>(kept)], last_kept(), held);
      ++kept;
    }
  }

  // Takes the token that follows the known ones.
  void append(int32_t token) {
    tokens.push_back(token);
    chosen_at = -1;
  }

  // Once it is known which beam it goes on from (fork()): takes the page that the token at `position`, which is under
  // way, is written to. That is `fresh` where the page is empty, and where another beam keeps what was the parent's;
  // then it was copied, which is returned.
  bool settle_page(int32_t fresh, bool keeps_parents, int64_t position, page_allocator& pool) {
    const auto index = static_cast<size_t>(position / pool.page_tokens());
    if (index == pages.size()) {
      pages.push_back(fresh);
      return false;
    }
    if (!keeps_parents) std::swap(pages[index], fresh);
    pool.give_back(fresh);
    return !keeps_parents;
  }

  void release_pages(page_allocator& pool) {
    if (fresh_page >= 0) pool.give_back(std::exchange(fresh_page, -1));
    for (auto page = pages.rbegin(); page != pages.rend(); ++page) pool.give_back(*page);
    pages.clear();
    kept = 0;
  }

 private:
  int32_t last_kept() const { return kept == 0 ? prefix_index::none : pages[static_cast<size_t>(kept) - 1]; }
  std::span<const int32_t> page_of(int64_t index, int64_t page_tokens) const {
    return std::span(tokens).subspan(static_cast<size_t>(index * page_tokens), static_cast<size_t>(page_tokens));
  }
  void adopt(int32_t page, page_allocator& pool) {
    pool.share(page);
    if (static_cast<size_t>(kept) < pages.size()) {
      pool.give_back(pages[static_cast<size_t>(kept)]);
      pages[static_cast<size_t>(kept)] = page;
    } else {
      pages.push_back(page);
    }
    ++kept;
  }
};

}  // namespace ft::runtime
