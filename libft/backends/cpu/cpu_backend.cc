// The CPU as a device: the kernels of the active instruction-set level behind the interface that all devices share.
#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed.h"
#include "backends/cpu/weight_memory.h"
#include "core/available_memory.h"

namespace ft {
namespace {

class cpu_device final : public backend {
 public:
  std::string name() const override { return "cpu"; }
  memory& device_memory() override { return host_memory(); }
  const op_table& ops() const override { return kernels_.ops; }

  size_t free_memory() const override { return available_memory().value_or(size_t{1} << 31); }

  void upload(void* to, const void* from_host, size_t bytes, void*) override { move(to, from_host, bytes); }
  void download(void* to_host, const void* from, size_t bytes, void*) override { move(to_host, from, bytes); }
  void download_later(void* to_host, const void* from, size_t bytes, void*) override { move(to_host, from, bytes); }
  void copy(void* to, const void* from, size_t bytes, void*) override { move(to, from, bytes); }
  void clear(void* to, size_t bytes, void*) override {
    if (bytes) std::memset(to, 0, bytes);
  }

  // So that a group's activations stay in the cache (docs/kernels/rowwise.md has the sizes tried).
  int64_t tokens_per_pass() const override { return 512; }

  dtype activation_type(dtype) const override { return dtype::f32; }

  bool computes_on(const weight_format& format) const override {
    switch (format.kind) {
      case weight_kind::dense:
      case weight_kind::int8_rows:
      case weight_kind::gguf_blocks:
        return true;
    }
    return false;
  }

  std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from,
                                      thread_pool*) override {
    return kernels_.pack(parts, made, &from == &host_memory() ? cpu::weight_memory() : from);
  }
  std::unique_ptr<packed_bias> pack_bias(std::span<const float> values, dtype, memory& from) override {
    return std::make_unique<cpu::cpu_bias>(values, from);
  }
  size_t kv_page_bytes(const kv_layout& layout) const override { return cpu::kv_page_bytes(layout); }

 private:
  static void move(void* to, const void* from, size_t bytes) {
    if (bytes) std::memcpy(to, from, bytes);
  }

  const cpu::kernels& kernels_ = cpu::kernels_of(cpu::active_level());
};

}  // namespace

backend& cpu_backend() {
  static cpu_device device;
  return device;
}

}  // namespace ft
