// What both formats need to turn a claimed shape and place into a view, without trusting either.
#include "io/stored_tensor.h"

#include <limits>
#include <utility>

namespace ft::io {

std::optional<uint64_t> stored_bytes(dtype type, std::span<const uint64_t> shape) {
  FT_CHECK(shape.size() <= static_cast<size_t>(tensor::max_rank));
  const auto block_elements = static_cast<uint64_t>(traits(type).block_elements);
  const auto block_bytes = static_cast<uint64_t>(traits(type).block_bytes);
  // Axes of length 0 count as 1 while overflow is looked for: strides are products of the others.
  uint64_t elements = 1;
  bool empty = false;
  for (uint64_t length : shape) {
    empty = empty || length == 0;
    if (length && __builtin_mul_overflow(elements, length, &elements)) return std::nullopt;
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements, block_bytes, &bytes)) return std::nullopt;
  if (bytes > uint64_t{std::numeric_limits<int64_t>::max()}) return std::nullopt;
  if ((shape.empty() ? 1 : shape.back()) % block_elements != 0) return std::nullopt;
  return empty ? 0 : elements / block_elements * block_bytes;
}

stored_tensor view_stored(std::string name, dtype type, std::span<const uint64_t> shape,
                          const std::shared_ptr<const mapped_file>& file, uint64_t offset) {
  tensor view;
  view.data = const_cast<std::byte*>(file->data()) + offset;
  view.type = type;
  view.rank = static_cast<int>(shape.size());
  int64_t step = 1;
  for (int axis = view.rank - 1; axis >= 0; --axis) {
    view.shape[axis] = static_cast<int64_t>(shape[axis]);
    view.stride[axis] = step;
    step *= view.shape[axis];
  }
  return {std::move(name), view, file};
}

}  // namespace ft::io
