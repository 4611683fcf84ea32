#include "runtime/plan/plan_bytes.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/status.h"
#include "runtime/plan/plan_check.h"

namespace ft::runtime {
namespace {

void put(std::vector<std::byte>& bytes, const void* data, size_t size) {
  const auto* from = static_cast<const std::byte*>(data);
  bytes.insert(bytes.end(), from, from + size);
}

class reader {
 public:
  explicit reader(std::span<const std::byte> bytes) : left_(bytes) {}

  void take(void* to, size_t size) {
    require(size <= left_.size());
    if (size > 0) std::memcpy(to, left_.data(), size);
    left_ = left_.subspan(size);
  }
  // Any bytes are a number; only 0 and 1 are what a flag has.
  template <class T>
  void take_value(T& to) {
    constexpr bool is_flags = std::is_same_v<T, bool> || std::is_same_v<T, forward_plan::outputs>;
    if constexpr (is_flags)
      require(sizeof(T) <= left_.size() &&
              std::ranges::all_of(left_.first(sizeof(T)), [](std::byte b) { return b <= std::byte{1}; }));
    take(&to, sizeof to);
  }
  template <class T>
  void take(std::vector<T>& to) {
    uint64_t count = 0;
    take(&count, sizeof count);
    require(count <= left_.size() / sizeof(T));
    to.resize(static_cast<size_t>(count));
    take(to.data(), to.size() * sizeof(T));
  }
  void require_end() const { require(left_.empty()); }

 private:
  static void require(bool holds) {
    if (!holds) fail(FT_ERROR_INTERNAL, "a plan that another rank sent is cut short or is no plan");
  }
  std::span<const std::byte> left_;
};

template <class Plan>
void write(std::vector<std::byte>& bytes, const Plan& plan) {
  bytes.clear();
  Plan::visit_values(plan, [&](const auto& value) { put(bytes, &value, sizeof value); });
  Plan::visit_arrays(plan, [&](const char*, const auto& array) {
    static_assert(std::is_trivially_copyable_v<std::remove_cvref_t<decltype(array[0])>>);
    const uint64_t count = array.size();
    put(bytes, &count, sizeof count);
    put(bytes, array.data(), array.size() * sizeof array[0]);
  });
}

template <class Plan>
void read(Plan& plan, std::span<const std::byte> bytes) {
  reader from(bytes);
  Plan::visit_values(plan, [&](auto& value) { from.take_value(value); });
  Plan::visit_arrays(plan, [&](const char*, auto& array) { from.take(array); });
  from.require_end();
  check_plan(plan);
}

}  // namespace

void write_plan(std::vector<std::byte>& bytes, const step_plan& plan) { write(bytes, plan); }
void write_plan(std::vector<std::byte>& bytes, const forward_plan& plan) { write(bytes, plan); }
void read_plan(step_plan& plan, std::span<const std::byte> bytes) { read(plan, bytes); }
void read_plan(forward_plan& plan, std::span<const std::byte> bytes) { read(plan, bytes); }

}  // namespace ft::runtime
