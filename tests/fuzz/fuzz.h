// What the fuzz targets share. Any exception but ft::error and std::bad_alloc leaves the target and is a finding.
#pragma once

#include <cstdint>
#include <new>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/status.h"
#include "io/stored_tensor.h"

namespace ft::fuzz {

template <class Body>
void guarded(Body&& body) {
  try {
    body();
  } catch (const error& e) {
    if (e.code() != FT_ERROR_CHECKPOINT && e.code() != FT_ERROR_UNSUPPORTED) throw;
  } catch (const std::bad_alloc&) {
  }
}

// Reads the first and the last byte of every tensor: they must lie in the file. (Foreign tensors have no view.)
inline void touch(std::span<const io::stored_tensor> tensors) {
  for (const io::stored_tensor& t : tensors) {
    const size_t bytes = bytes_of(t.data.type, t.data.size());
    if (!bytes) continue;
    const auto* data = static_cast<const volatile unsigned char*>(t.data.data);
    static_cast<void>(data[0]);
    static_cast<void>(data[bytes - 1]);
  }
}

// The same of tensors with strides.
inline void touch_strided(std::span<const io::stored_tensor> tensors) {
  for (const io::stored_tensor& t : tensors) {
    if (t.data.size() == 0) continue;
    int64_t last = 0;
    for (int i = 0; i < t.data.rank; ++i) last += (t.data.shape[i] - 1) * t.data.stride[i];
    const auto* data = static_cast<const volatile unsigned char*>(t.data.data);
    static_cast<void>(data[0]);
    static_cast<void>(data[bytes_of(t.data.type, last + 1) - 1]);
  }
}

}  // namespace ft::fuzz
