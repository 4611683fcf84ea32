// The key-value pages of one session: fixed-size pieces of every layer's cache, handed out by number. Sequences that
// have a beginning in common share its pages; whoever writes to a shared page first takes a copy. A full page may be
// kept when its last sequence gives it back, for a later one that begins alike: it stays until its memory is needed, or
// more are kept than were allowed, and those that nobody has used for longest go first.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/memory.h"
#include "ops/backend.h"
#include "ops/kv_cache.h"
#include "runtime/prefix_index.h"

namespace ft::runtime {

class page_pool {
 public:
  // Allocates `num_pages` pages in each of `num_layers` layers, from `from`; keeps at most `most_idle` that nobody
  // holds. A page is first written to when all those written to before are held or kept.
  page_pool(backend& device, memory& from, const kv_layout& layout, int64_t num_layers, int64_t num_pages,
            int64_t most_idle);

  static size_t bytes_per_page(backend& device, const kv_layout& layout, int64_t num_layers) {
    return 2 * device.kv_page_bytes(layout) * static_cast<size_t>(num_layers);
  }

  const std::vector<kv_pages>& layers() const { return layers_; }
  // From one layer's pages to the next's.
  int64_t layer_bytes() const { return static_cast<int64_t>(storage_.bytes() / layers_.size()); }
  int64_t page_tokens() const { return layers_.front().layout.page_tokens; }
  int64_t total() const { return static_cast<int64_t>(pages_.size()); }
  // Pages that sequences hold, and pages that are kept and nobody holds. Nothing below allocates.
  int64_t in_use() const { return total() - static_cast<int64_t>(free_.size()) - idle_; }
  int64_t idle() const { return idle_; }

  // Never more pages are held than the scheduler has reserved, so there is always a free or an idle one.
  int32_t take();
  // Takes pages until there is room for `tokens`.
  void cover(std::vector<int32_t>& pages, int64_t tokens) {
    while (static_cast<int64_t>(pages.size()) * page_tokens() < tokens) pages.push_back(take());
  }
  // Where the token at `position` of a sequence with these pages lies, as kv_write counts.
  int32_t slot_of(const std::vector<int32_t>& pages, int64_t position) const {
    const int64_t page = pages[static_cast<size_t>(position / page_tokens())];
    return static_cast<int32_t>(page * page_tokens() + position % page_tokens());
  }
  void share(int32_t page);
  bool shared(int32_t page) const { return at(page).users > 1; }
  // A sequence gives its last page back first. So of the idle pages each comes before the one that it follows in
  // the text, and the first is one that no kept page follows.
  void give_back(int32_t page);

  // The kept page of `tokens` after the kept page `parent` (prefix_index::none: at the beginning), or none.
  int32_t find(int32_t parent, std::span<const int32_t> tokens) const { return kept_.find(parent, tokens); }
  // Keeps a full page, which a sequence holds together with `parent`.
  void keep(int32_t page, int32_t parent, std::span<const int32_t> tokens) { kept_.insert(page, parent, tokens); }

  // A request holds the kept pages of its prompt as a whole, whatever its sequences do, until it ends. num_pinned()
  // counts a page once, however many requests hold it so.
  void pin(int32_t page);
  void unpin(int32_t page);
  bool pinned(int32_t page) const { return at(page).pins > 0; }
  int64_t num_pinned() const { return num_pinned_; }

 private:
  struct page_state {
    int32_t users = 0;
    int32_t pins = 0;                                                 // of the users, those that are requests
    int32_t before = prefix_index::none, after = prefix_index::none;  // in the list of idle pages
  };
  page_state& at(int32_t page) { return pages_[static_cast<size_t>(page)]; }
  const page_state& at(int32_t page) const { return pages_[static_cast<size_t>(page)]; }
  void add_idle(int32_t page);
  void remove_idle(int32_t page);
  void forget_oldest();

  buffer storage_;
  std::vector<kv_pages> layers_;
  std::vector<page_state> pages_;
  std::vector<int32_t> free_;
  prefix_index kept_;
  int32_t first_idle_ = prefix_index::none, last_idle_ = prefix_index::none;  // the longest and the shortest unused
  int64_t idle_ = 0, most_idle_;
  int64_t num_pinned_ = 0;
};

}  // namespace ft::runtime
