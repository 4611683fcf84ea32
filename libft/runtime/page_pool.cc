#include "runtime/page_pool.h"

#include "core/status.h"

namespace ft::runtime {

page_pool::page_pool(backend& device, const kv_layout& layout, int64_t num_layers, int64_t num_pages)
    : storage_(device.device_memory(), bytes_per_page(device, layout, num_layers) * static_cast<size_t>(num_pages)),
      users_(static_cast<size_t>(num_pages), 0) {
  const size_t layer_bytes = device.kv_page_bytes(layout) * static_cast<size_t>(num_pages);
  layers_.reserve(static_cast<size_t>(num_layers));
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    char* keys = storage_.as<char>() + 2 * layer_bytes * static_cast<size_t>(layer);
    layers_.push_back({keys, keys + layer_bytes, layout});
  }
  free_.reserve(static_cast<size_t>(num_pages));
  for (int64_t page = num_pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));  // low numbers first
}

int32_t page_pool::take() {
  FT_CHECK(!free_.empty());
  const int32_t page = free_.back();
  free_.pop_back();
  users_[static_cast<size_t>(page)] = 1;
  return page;
}

}  // namespace ft::runtime
