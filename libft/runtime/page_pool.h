// The key-value pages of one session: fixed-size pieces of every layer's cache, handed out by number. Sequences that
// have a beginning in common share its pages; whoever writes to a shared page first takes a copy.
#pragma once

#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "ops/exec.h"
#include "ops/kv_cache.h"

namespace ft::runtime {

class page_pool {
 public:
  // Allocates `num_pages` pages in each of `num_layers` layers.
  page_pool(backend& device, const kv_layout& layout, int64_t num_layers, int64_t num_pages);

  static size_t bytes_per_page(backend& device, const kv_layout& layout, int64_t num_layers) {
    return 2 * device.kv_page_bytes(layout) * static_cast<size_t>(num_layers);
  }

  const std::vector<kv_pages>& layers() const { return layers_; }
  int64_t page_tokens() const { return layers_.front().layout.page_tokens; }
  int64_t total() const { return static_cast<int64_t>(users_.size()); }
  int64_t in_use() const { return total() - static_cast<int64_t>(free_.size()); }

  // Never more pages are taken than the scheduler has reserved, so there is always one. Nothing here allocates.
  int32_t take();
  void share(int32_t page) { ++users_[static_cast<size_t>(page)]; }
  bool shared(int32_t page) const { return users_[static_cast<size_t>(page)] > 1; }
  void give_back(int32_t page) {
    if (--users_[static_cast<size_t>(page)] == 0) free_.push_back(page);
  }

 private:
  buffer storage_;
  std::vector<kv_pages> layers_;
  std::vector<int32_t> free_;
  std::vector<int32_t> users_;  // of each page
};

}  // namespace ft::runtime
