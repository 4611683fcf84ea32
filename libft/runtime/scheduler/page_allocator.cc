#include "runtime/scheduler/page_allocator.h"

#include "core/status.h"

namespace ft::runtime {

page_allocator::page_allocator(int64_t num_pages, int64_t page_tokens, int64_t most_idle)
    : page_tokens_(page_tokens),
      pages_(static_cast<size_t>(num_pages)),
      kept_(num_pages, page_tokens),
      most_idle_(most_idle) {
  free_.reserve(static_cast<size_t>(num_pages));
  for (int64_t page = num_pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));  // low numbers first
}

int32_t page_allocator::take() {
  FT_CHECK(!free_.empty() || idle_ > 0);
  if (free_.empty()) forget_oldest();
  const int32_t page = free_.back();
  free_.pop_back();
  at(page).users = 1;
  return page;
}

void page_allocator::share(int32_t page) {
  if (at(page).users++ == 0) remove_idle(page);
}

void page_allocator::give_back(int32_t page) {
  if (--at(page).users > 0) return;
  if (!kept_.contains(page)) return free_.push_back(page);
  add_idle(page);
  if (idle_ > most_idle_) forget_oldest();
}

void page_allocator::pin(int32_t page) {
  share(page);
  num_pinned_ += at(page).pins++ == 0;
}

void page_allocator::unpin(int32_t page) {
  num_pinned_ -= --at(page).pins == 0;
  give_back(page);
}

void page_allocator::forget_oldest() {
  const int32_t page = first_idle_;
  remove_idle(page);
  kept_.erase(page);
  free_.push_back(page);
}

void page_allocator::add_idle(int32_t page) {
  at(page).before = last_idle_;
  at(page).after = prefix_index::none;
  (last_idle_ == prefix_index::none ? first_idle_ : at(last_idle_).after) = page;
  last_idle_ = page;
  ++idle_;
}

void page_allocator::remove_idle(int32_t page) {
  const page_state& p = at(page);
  (p.before == prefix_index::none ? first_idle_ : at(p.before).after) = p.after;
  (p.after == prefix_index::none ? last_idle_ : at(p.after).before) = p.before;
  --idle_;
}

}  // namespace ft::runtime
