#include "runtime/scheduler/prefix_index.h"

#include <algorithm>
#include <bit>

#include "core/status.h"

namespace ft::runtime {

prefix_index::prefix_index(int64_t num_pages, int64_t page_tokens)
    : page_tokens_(static_cast<size_t>(page_tokens)),
      entries_(static_cast<size_t>(num_pages)),
      tokens_(static_cast<size_t>(num_pages * page_tokens)),
      buckets_(std::bit_ceil(static_cast<size_t>(num_pages)), none) {}

// Any spread will do, since tokens are compared: multiply and shift, as FNV-1a does with bytes.
size_t prefix_index::bucket_of(int32_t parent, std::span<const int32_t> tokens) const {
  uint64_t hash = 0xcbf29ce484222325u ^ static_cast<uint32_t>(parent);
  for (int32_t token : tokens) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return static_cast<size_t>(hash) & (buckets_.size() - 1);
}

int32_t prefix_index::find(int32_t parent, std::span<const int32_t> tokens) const {
  for (int32_t page = buckets_[bucket_of(parent, tokens)]; page != none;
       page = entries_[static_cast<size_t>(page)].next)
    if (entries_[static_cast<size_t>(page)].parent == parent && std::ranges::equal(tokens_of(page), tokens))
      return page;
  return none;
}

void prefix_index::insert(int32_t page, int32_t parent, std::span<const int32_t> tokens) {
  FT_CHECK(!contains(page) && tokens.size() == page_tokens_);
  std::ranges::copy(tokens, tokens_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(page) * page_tokens_));
  int32_t& first = buckets_[bucket_of(parent, tokens)];
  entries_[static_cast<size_t>(page)] = {parent, first, true};
  first = page;
}

void prefix_index::erase(int32_t page) {
  entry& gone = entries_[static_cast<size_t>(page)];
  FT_CHECK(gone.present);
  int32_t* link = &buckets_[bucket_of(gone.parent, tokens_of(page))];
  while (*link != page) link = &entries_[static_cast<size_t>(*link)].next;
  *link = gone.next;
  gone = {};
}

}  // namespace ft::runtime
