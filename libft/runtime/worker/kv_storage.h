// The memory behind one session's page numbers on one rank: pages of keys and values in every layer that the rank has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/memory.h"
#include "ops/exec.h"
#include "ops/kv_cache.h"

namespace ft::runtime {

class kv_storage {
 public:
  // Allocates `num_pages` pages in each of `num_layers` layers, from `from`.
  kv_storage(backend& device, memory& from, const kv_layout& layout, int64_t num_layers, int64_t num_pages)
      : storage_(from, bytes_per_page(device, layout, num_layers) * static_cast<size_t>(num_pages)) {
    const size_t layer_bytes = device.kv_page_bytes(layout) * static_cast<size_t>(num_pages);
    layers_.reserve(static_cast<size_t>(num_layers));
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      char* keys = storage_.as<char>() + 2 * layer_bytes * static_cast<size_t>(layer);
      layers_.push_back({keys, keys + layer_bytes, layout});
    }
  }

  static size_t bytes_per_page(backend& device, const kv_layout& layout, int64_t num_layers) {
    return 2 * device.kv_page_bytes(layout) * static_cast<size_t>(num_layers);
  }

  const std::vector<kv_pages>& layers() const { return layers_; }
  // From one layer's pages to the next's.
  int64_t layer_bytes() const { return static_cast<int64_t>(storage_.bytes() / layers_.size()); }
  int64_t page_tokens() const { return layers_.front().layout.page_tokens; }

 private:
  buffer storage_;
  std::vector<kv_pages> layers_;
};

}  // namespace ft::runtime
