// ft/tensor.h.
#include <cstring>
#include <limits>

#include "api/guard.h"
#include "api/handles.h"

namespace ft::api {
namespace {

struct type_pair {
  dtype ours;
  ft_dtype theirs;
};

constexpr type_pair type_pairs[] = {
    {dtype::f32, {FT_DTYPE_FLOAT, 32, 1}},   {dtype::f64, {FT_DTYPE_FLOAT, 64, 1}},
    {dtype::f16, {FT_DTYPE_FLOAT, 16, 1}},   {dtype::bf16, {FT_DTYPE_BFLOAT, 16, 1}},
    {dtype::i8, {FT_DTYPE_INT, 8, 1}},       {dtype::i16, {FT_DTYPE_INT, 16, 1}},
    {dtype::i32, {FT_DTYPE_INT, 32, 1}},     {dtype::i64, {FT_DTYPE_INT, 64, 1}},
    {dtype::u8, {FT_DTYPE_UINT, 8, 1}},      {dtype::u16, {FT_DTYPE_UINT, 16, 1}},
    {dtype::u32, {FT_DTYPE_UINT, 32, 1}},    {dtype::u64, {FT_DTYPE_UINT, 64, 1}},
    {dtype::boolean, {FT_DTYPE_BOOL, 8, 1}},
};

bool same(const ft_dtype& a, const ft_dtype& b) { return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes; }

dtype to_dtype(const ft_dtype& type, const char* name) {
  for (const type_pair& pair : type_pairs)
    if (same(pair.theirs, type)) return pair.ours;
  fail(FT_ERROR_INVALID_ARGUMENT, name, " has an unknown dtype (DLPack code ", int{type.code}, ", ", int{type.bits},
       " bits, ", type.lanes, " lanes)");
}

ft_dtype from_dtype(dtype type) {
  for (const type_pair& pair : type_pairs)
    if (pair.ours == type) return pair.theirs;
  fail(FT_ERROR_INTERNAL, "dtype ", name(type), " has no DLPack equivalent");
}

// Copies shape and strides into the handle, points the view at them, and checks both.
void adopt_view(ft_tensor& t, const ft_dl_tensor& view, const char* name) {
  if (view.ndim < 0 || view.ndim > 64) fail(FT_ERROR_INVALID_ARGUMENT, name, " has ", view.ndim, " dimensions");
  if (view.ndim > 0 && !view.shape) fail(FT_ERROR_INVALID_ARGUMENT, name, " has no shape");
  const dtype type = to_dtype(view.dtype, name);
  const size_t rank = static_cast<size_t>(view.ndim);
  t.shape.assign(view.shape, view.shape + rank);
  t.strides.resize(rank);
  int64_t step = 1;
  for (size_t i = rank; i-- > 0;) {
    if (t.shape[i] < 0) fail(FT_ERROR_INVALID_ARGUMENT, name, " has a negative size along dimension ", i);
    t.strides[i] = view.strides ? view.strides[i] : step;
    if (__builtin_mul_overflow(step, std::max<int64_t>(t.shape[i], 1), &step) ||
        step > std::numeric_limits<int64_t>::max() / 16)
      fail(FT_ERROR_INVALID_ARGUMENT, name, " has more elements than can be addressed");
  }
  const bool empty = std::find(t.shape.begin(), t.shape.end(), 0) != t.shape.end();
  if (!view.data && !empty) fail(FT_ERROR_INVALID_ARGUMENT, name, " has no data");
  static_cast<void>(type);
  t.view = view;
  t.view.shape = t.shape.data();
  t.view.strides = t.strides.data();
}

std::string text(const ft_device& device) {
  if (device.device_type == FT_DEVICE_CPU) return "the CPU";
  return device.device_type == FT_DEVICE_CUDA ? cat("cuda:", device.device_id)
                                              : cat("a device of DLPack type ", device.device_type);
}

void destroy(ft_tensor* t) {
  if (t->release) t->release(t->user_data);
  if (t->managed && t->managed->deleter) t->managed->deleter(t->managed);
  delete t;
}

}  // namespace

bool on_host(const ft_tensor& t) {
  return t.view.device.device_type == FT_DEVICE_CPU || t.view.device.device_type == FT_DEVICE_CUDA_HOST;
}

tensor to_tensor(const ft_tensor* t, const char* name) { return to_tensor(t, name, {FT_DEVICE_CPU, 0}); }

tensor to_tensor(const ft_tensor* t, const char* name, const ft_device& device) {
  if (!t) return {};
  const ft_dl_tensor& view = t->view;
  const bool there = view.device.device_type == device.device_type && view.device.device_id == device.device_id;
  if (!there && !(device.device_type == FT_DEVICE_CPU && on_host(*t)))
    fail(FT_ERROR_UNSUPPORTED, name, " lies on ", text(view.device), "; it is read on ", text(device),
         device.device_type == FT_DEVICE_CPU ? "" : " or the CPU", ": move it there");
  if (view.ndim > tensor::max_rank) fail(FT_ERROR_INVALID_ARGUMENT, name, " has ", view.ndim, " dimensions");
  tensor out;
  out.data = static_cast<char*>(view.data) + view.byte_offset;
  out.type = to_dtype(view.dtype, name);
  out.rank = view.ndim;
  std::copy_n(view.shape, view.ndim, out.shape.begin());
  std::copy_n(view.strides, view.ndim, out.stride.begin());
  if (out.size() == 0) fail(FT_ERROR_INVALID_ARGUMENT, name, " is empty");
  return out;
}

ft_tensor* make_tensor(runtime::owned_tensor owned, const ft_device& device, std::shared_ptr<stream_point> ready) {
  auto t = std::make_unique<ft_tensor>();
  std::array<int64_t, tensor::max_rank> shape = owned.view.shape;
  const ft_dl_tensor described = {
      owned.storage.data(), device, owned.view.rank, from_dtype(owned.view.type), shape.data(), nullptr, 0};
  adopt_view(*t, described, "tensor");
  t->from = std::move(owned.from);
  t->storage = std::move(owned.storage);
  t->ready = std::move(ready);
  return t.release();
}

tensor_handle create_tensor(const ft_dtype& type, int32_t ndim, const int64_t* shape) {
  tensor_handle t(new ft_tensor);
  int64_t nothing = 0;  // stands for the data until the shape has been checked
  const ft_dl_tensor wanted = {&nothing, {FT_DEVICE_CPU, 0}, ndim, type, const_cast<int64_t*>(shape), nullptr, 0};
  adopt_view(*t, wanted, "tensor");
  int64_t elements = 1;
  for (int64_t size : t->shape) elements *= size;
  const size_t bytes = static_cast<size_t>(elements) * (type.bits / 8u);
  t->storage = buffer(host_memory(), std::max<size_t>(bytes, 1));
  std::memset(t->storage.data(), 0, bytes);
  t->view.data = t->storage.data();
  return t;
}

}  // namespace ft::api

using namespace ft;
using namespace ft::api;

ft_status ft_tensor_wrap(ft_tensor** out, const ft_dl_tensor* view, ft_release_callback release, void* user_data) {
  return guard([&] {
    require(out, "out") = nullptr;
    auto t = std::make_unique<ft_tensor>();
    adopt_view(*t, require(view, "view"), "view");
    t->release = release;
    t->user_data = user_data;
    *out = t.release();
  });
}

ft_status ft_tensor_create(ft_tensor** out, ft_dtype type, int32_t ndim, const int64_t* shape) {
  return guard([&] {
    require(out, "out") = nullptr;
    *out = create_tensor(type, ndim, shape).release();
  });
}

ft_status ft_tensor_view(ft_dl_tensor* out, const ft_tensor* tensor) {
  return guard([&] { require(out, "out") = require(tensor, "tensor").view; });
}

void ft_tensor_retain(ft_tensor* tensor) {
  if (tensor) tensor->references.fetch_add(1, std::memory_order_relaxed);
}

void ft_tensor_release(ft_tensor* tensor) {
  if (tensor && tensor->references.fetch_sub(1, std::memory_order_acq_rel) == 1) destroy(tensor);
}

ft_status ft_tensor_to_dlpack(ft_dl_managed_tensor** out, ft_tensor* tensor) {
  return guard([&] {
    require(out, "out") = nullptr;
    require(tensor, "tensor");
    auto managed = std::make_unique<ft_dl_managed_tensor>();
    managed->version = {1, 0};
    managed->manager_ctx = tensor;
    managed->deleter = [](ft_dl_managed_tensor* self) {
      ft_tensor_release(static_cast<ft_tensor*>(self->manager_ctx));
      delete self;
    };
    managed->flags = tensor->managed ? tensor->managed->flags & FT_DL_FLAG_READ_ONLY : 0;
    managed->dl_tensor = tensor->view;
    ft_tensor_retain(tensor);
    *out = managed.release();
  });
}

ft_status ft_tensor_from_dlpack(ft_tensor** out, ft_dl_managed_tensor* managed) {
  return guard([&] {
    require(out, "out") = nullptr;
    if (require(managed, "managed").version.major != 1)
      fail(FT_ERROR_UNSUPPORTED, "the tensor speaks DLPack ", managed->version.major, ".", managed->version.minor,
           "; this build speaks 1.x");
    auto t = std::make_unique<ft_tensor>();
    adopt_view(*t, managed->dl_tensor, "managed");
    t->managed = managed;
    *out = t.release();
  });
}
