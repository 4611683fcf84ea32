#include "ops/place.h"

namespace ft::test {
namespace {

constexpr int64_t guard = 32;
constexpr uint32_t poison_f32 = 0x7fc0dead;
constexpr uint16_t poison_half = 0x7ead;  // a NaN of both 16-bit types

size_t element_bytes(dtype type) { return bytes_of(type, 1); }

void encode(dtype type, float x, uint8_t* to) {
  uint16_t half = 0;
  switch (type) {
    case dtype::f16:
      half = from_float<f16>(x).bits;
      break;
    case dtype::bf16:
      half = from_float<bf16>(x).bits;
      break;
    default:
      std::memcpy(to, &x, 4);
      return;
  }
  std::memcpy(to, &half, 2);
}

float decode(dtype type, const uint8_t* from) {
  if (type == dtype::f32) {
    float x;
    std::memcpy(&x, from, 4);
    return x;
  }
  uint16_t half;
  std::memcpy(&half, from, 2);
  return type == dtype::f16 ? to_float(f16{half}) : to_float(bf16{half});
}

std::vector<uint8_t> poisoned(dtype type, int64_t elements) {
  std::vector<uint8_t> raw(static_cast<size_t>(elements) * element_bytes(type));
  const size_t step = element_bytes(type);
  for (size_t i = 0; i < raw.size(); i += step)
    std::memcpy(&raw[i], type == dtype::f32 ? static_cast<const void*>(&poison_f32) : &poison_half, step);
  return raw;
}

// Calls f with the index in memory of every element of the tensor, in order.
template <class F>
void each_index(const tensor& t, F&& f) {
  int64_t row = 1;
  for (int i = 1; i < t.rank; ++i) row *= t.shape[i];
  for (int64_t r = 0; r < t.shape[0]; ++r)
    for (int64_t i = 0; i < row; ++i) f(static_cast<size_t>(guard + r * t.stride[0] + i));
}

}  // namespace

placed::placed(exec& ex, const guarded& host, dtype type) : ex_(&ex), view_(host.view()) {
  view_.type = type;
  const size_t step = element_bytes(type);
  std::vector<uint8_t> raw = poisoned(type, view_.shape[0] * view_.stride[0] + 2 * guard);
  const std::vector<float> values = guarded(host).values();
  size_t next = 0;
  each_index(view_, [&](size_t i) { encode(type, values[next++], &raw[i * step]); });
  memory_ = buffer(ex.device.device_memory(), raw.size());
  ex.upload(memory_.data(), raw.data(), raw.size());
  view_.data = memory_.as<uint8_t>() + guard * step;
}

std::vector<float> placed::values() const {
  const dtype type = view_.type;
  const size_t step = element_bytes(type);
  std::vector<uint8_t> raw(memory_.bytes());
  ex_->download(raw.data(), memory_.data(), raw.size());
  const std::vector<uint8_t> untouched = poisoned(type, static_cast<int64_t>(raw.size() / step));
  std::vector<float> values;
  each_index(view_, [&](size_t i) {
    values.push_back(decode(type, &raw[i * step]));
    std::memcpy(&raw[i * step], &untouched[i * step], step);
  });
  CHECK_MSG(raw == untouched, "memory beside a tensor of ", name(type), " was written");
  return values;
}

}  // namespace ft::test
