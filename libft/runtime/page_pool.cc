#include "runtime/page_pool.h"

#include "core/status.h"

namespace ft::runtime {

page_pool::page_pool(backend& device, memory& from, const kv_layout& layout, int64_t num_layers, int64_t num_pages,
                     int64_t most_idle)
    : storage_(from, bytes_per_page(device, layout, num_layers) * static_cast<size_t>(num_pages)),
      pages_(static_cast<size_t>(num_pages)),
      kept_(num_pages, layout.page_tokens),
      most_idle_(most_idle) {
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
  FT_CHECK(!free_.empty() || idle_ > 0);
  if (free_.empty()) forget_oldest();
  const int32_t page = free_.back();
  free_.pop_back();
  at(page).users = 1;
  return page;
}

void page_pool::share(int32_t page) {
  if (at(page).users++ == 0) remove_idle(page);
}

void page_pool::give_back(int32_t page) {
  if (--at(page).users > 0) return;
  if (!kept_.contains(page)) return free_.push_back(page);
  add_idle(page);
  if (idle_ > most_idle_) forget_oldest();
}

void page_pool::pin(int32_t page) {
  share(page);
  num_pinned_ += at(page).pins++ == 0;
}

void page_pool::unpin(int32_t page) {
  num_pinned_ -= --at(page).pins == 0;
  give_back(page);
}

void page_pool::forget_oldest() {
  const int32_t page = first_idle_;
  remove_idle(page);
  kept_.erase(page);
  free_.push_back(page);
}

void page_pool::add_idle(int32_t page) {
  at(page).before = last_idle_;
  at(page).after = prefix_index::none;
  (last_idle_ == prefix_index::none ? first_idle_ : at(last_idle_).after) = page;
  last_idle_ = page;
  ++idle_;
}

void page_pool::remove_idle(int32_t page) {
  const page_state& p = at(page);
  (p.before == prefix_index::none ? first_idle_ : at(p.before).after) = p.after;
  (p.after == prefix_index::none ? last_idle_ : at(p.after).before) = p.before;
  --idle_;
}

}  // namespace ft::runtime
