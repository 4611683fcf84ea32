// ft/tensor.h: tensors that lie on a GPU, when they are ready, and their way to the host.
#include <mutex>
#include <vector>

#include "api/guard.h"
#include "api/handles.h"
#include "backends/devices.h"

using namespace ft;
using namespace ft::api;

namespace {

backend& device_behind(const ft_device& id) {
  if (const device_entry* entry = find_device(id)) return *entry->device;
  if (id.device_type == FT_DEVICE_CUDA_HOST) return cpu_backend();
  fail(FT_ERROR_UNSUPPORTED, "there is no device of DLPack type ", id.device_type, " and number ", id.device_id,
       " here", gpu_problem().empty() ? "" : ": " + gpu_problem());
}

// One a device, made at the first call; null on the CPU.
void* exchange_stream(backend& device) {
  struct entry {
    backend* device;
    std::shared_ptr<void> stream;
  };
  static std::mutex mutex;
  static auto* made = new std::vector<entry>;  // for as long as the process lives
  const std::lock_guard lock(mutex);
  for (const entry& e : *made)
    if (e.device == &device) return e.stream.get();
  return made->emplace_back(&device, device.make_stream()).stream.get();
}

// Elements of any strides one after another; `to` moves on.
void pack(const ft_dl_tensor& view, int axis, const char* from, char*& to, size_t element) {
  if (axis == view.ndim) {
    std::memcpy(to, from, element);
    to += element;
    return;
  }
  for (int64_t i = 0; i < view.shape[axis]; ++i)
    pack(view, axis + 1, from + i * view.strides[axis] * static_cast<int64_t>(element), to, element);
}

}  // namespace

// What lies between the first and the last element comes in one piece, and is put in order here.
tensor_handle ft::api::copy_to_host(const ft_tensor& t) {
  tensor_handle made = create_tensor(t.view.dtype, t.view.ndim, t.view.shape);
  const auto element = static_cast<int64_t>(t.view.dtype.bits / 8);
  int64_t low = 0, high = 1;  // elements
  for (int i = 0; i < t.view.ndim; ++i) {
    if (t.view.shape[i] == 0) return made;
    const int64_t reach = (t.view.shape[i] - 1) * t.view.strides[i];
    (reach < 0 ? low : high) += reach;
  }
  const char* first = static_cast<const char*>(t.view.data) + t.view.byte_offset;
  buffer piece;
  if (!on_host(t)) {
    backend& device = device_behind(t.view.device);
    void* stream = exchange_stream(device);
    if (t.ready) t.ready->hold(stream);
    piece = buffer(host_memory(), static_cast<size_t>((high - low) * element));
    device.download(piece.data(), first + low * element, piece.bytes(), stream);
    first = piece.as<const char>() - low * element;
  }
  char* to = made->storage.as<char>();
  pack(t.view, 0, first, to, static_cast<size_t>(element));
  return made;
}

ft_status ft_tensor_ready_after(ft_tensor* tensor, void* stream) {
  return guard([&] {
    ft_tensor& t = require(tensor, "tensor");
    t.ready = device_behind(t.view.device).mark(stream);
  });
}

ft_status ft_tensor_wait(const ft_tensor* tensor, void* stream) {
  return guard([&] {
    if (!require(tensor, "tensor").ready) return;
    if (stream)
      tensor->ready->hold(stream);
    else
      tensor->ready->wait();
  });
}

ft_status ft_tensor_to_host(ft_tensor** out, const ft_tensor* tensor) {
  return guard([&] {
    require(out, "out") = nullptr;
    *out = copy_to_host(require(tensor, "tensor")).release();
  });
}

ft_status ft_exchange_stream(void** out, ft_device device) {
  return guard([&] {
    require(out, "out") = nullptr;
    *out = exchange_stream(device_behind(device));
  });
}
