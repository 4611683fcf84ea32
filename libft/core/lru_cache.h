// A map of bounded size that drops what was used least recently. Not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

namespace ft {

template <class Key, class Value>
class lru_cache {
 public:
  explicit lru_cache(size_t most) : most_(most) {}

  // Null where there is none; good until the next put() or clear().
  Value* find(const Key& key) {
    const auto at = entries_.find(key);
    if (at == entries_.end()) return nullptr;
    at->second.used = ++uses_;
    return &at->second.value;
  }

  // In the place of what the key had before. Going through all entries is for who makes one, which takes longer.
  void put(const Key& key, Value value) {
    entries_[key] = {std::move(value), ++uses_};
    if (entries_.size() > most_)
      entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                      [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
  }

  size_t size() const { return entries_.size(); }
  void clear() { entries_.clear(); }

 private:
  struct entry {
    Value value;
    uint64_t used = 0;
  };
  std::map<Key, entry> entries_;
  uint64_t uses_ = 0;
  size_t most_;
};

}  // namespace ft
