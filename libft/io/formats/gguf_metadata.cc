// Looking up GGUF metadata.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/status.h"
#include "io/formats/gguf.h"
#include "io/text/printable.h"

namespace ft::io {

size_t gguf_value::length() const {
  return std::visit([](const auto& values) { return values.size(); }, data);
}

gguf_metadata::gguf_metadata(std::string file, std::vector<gguf_value> values)
    : file_(std::move(file)), values_(std::move(values)), by_key_(values_.size()) {
  std::iota(by_key_.begin(), by_key_.end(), size_t{0});
  std::sort(by_key_.begin(), by_key_.end(), [&](size_t a, size_t b) { return values_[a].key < values_[b].key; });
  auto same = [&](size_t a, size_t b) { return values_[a].key == values_[b].key; };
  auto twice = std::adjacent_find(by_key_.begin(), by_key_.end(), same);
  if (twice != by_key_.end())
    fail(FT_ERROR_CHECKPOINT, file_, ": the metadata key '", printable(values_[*twice].key), "' appears twice");
}

const gguf_value* gguf_metadata::find(std::string_view key) const {
  auto at = std::lower_bound(by_key_.begin(), by_key_.end(), key,
                             [&](size_t index, std::string_view wanted) { return values_[index].key < wanted; });
  return at != by_key_.end() && values_[*at].key == key ? &values_[*at] : nullptr;
}

// The key's one value, in its list; null when the key is absent. Throws when it is of another type or number.
template <class T>
const T* gguf_metadata::scalar(std::string_view key, std::string_view expected) const {
  const gguf_value* value = find(key);
  if (!value) return nullptr;
  const auto* list = std::get_if<T>(&value->data);
  if (!list || list->size() != 1)
    fail(FT_ERROR_CHECKPOINT, file_, ": the metadata key '", key, "' must be ", expected,
         list ? cat(", not a list of ", list->size()) : std::string(", not another type"));
  return list;
}

int64_t gguf_metadata::integer(std::string_view key) const {
  const auto* value = scalar<std::vector<int64_t>>(key, "an integer");
  if (!value) fail(FT_ERROR_CHECKPOINT, file_, ": the metadata key '", key, "' is missing");
  return value->front();
}

int64_t gguf_metadata::integer(std::string_view key, int64_t otherwise) const {
  const auto* value = scalar<std::vector<int64_t>>(key, "an integer");
  return value ? value->front() : otherwise;
}

double gguf_metadata::number(std::string_view key, double otherwise) const {
  const gguf_value* found = find(key);
  if (found && std::holds_alternative<std::vector<int64_t>>(found->data)) return static_cast<double>(integer(key));
  const auto* value = scalar<std::vector<double>>(key, "a number");
  if (!value) return otherwise;
  if (!std::isfinite(value->front()))
    fail(FT_ERROR_CHECKPOINT, file_, ": the metadata key '", key, "' is ", value->front(), ", not a finite number");
  return value->front();
}

bool gguf_metadata::boolean(std::string_view key, bool otherwise) const {
  const auto* value = scalar<std::vector<bool>>(key, "true or false");
  return value ? value->front() : otherwise;
}

std::string gguf_metadata::string(std::string_view key, std::string_view otherwise) const {
  const auto* value = scalar<std::vector<std::string>>(key, "a string");
  return value ? value->front() : std::string(otherwise);
}

}  // namespace ft::io
