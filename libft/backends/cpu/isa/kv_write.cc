// kv_write: a step's keys and values go into their pages. Keys turn from rows into columns: of a prompt, as many
// tokens at a time as a vector has lanes; else element by element.
#include "backends/cpu/isa/isa_ops.h"
#include "backends/cpu/isa/kv_view.h"
#include "backends/cpu/isa/parallel.h"

namespace ft::cpu::FT_ISA {
namespace {

template <class T>
FT_INLINE void put_value(T* to, const float* value, int64_t head_dim) {
  for_vectors(head_dim, [&](int64_t i, auto count) { store(to + i, load(value + i, count), count); });
}

template <class T>
struct writer {
  const kv_write_args& a;
  const kv_layout& layout = a.pages.layout;
  const int32_t* slots = a.slots.as<int32_t>();

  const float* row(const tensor& x, int64_t token, int64_t head) const {
    return x.as<float>() + token * x.stride[0] + head * x.stride[1];
  }
  int64_t head_offset(int64_t slot, int64_t head) const {
    return (slot / layout.page_tokens * layout.num_kv_heads + head) * layout.page_tokens * layout.head_dim;
  }

  // Whether tokens t .. t + lanes lie side by side in one page, from a column that is a multiple of lanes.
  bool whole_columns(int64_t t, int64_t end) const {
    if (t + lanes > end || layout.page_tokens % lanes || slots[t] % layout.page_tokens % lanes) return false;
    for (int i = 1; i < lanes; ++i)
      if (slots[t + i] != slots[t] + i) return false;
    return true;
  }

  void put_keys(int64_t t, int64_t tokens) const {
    for (int64_t h = 0; h < layout.num_kv_heads; ++h) {
      const float* key = row(a.key, t, h);
      T* to = static_cast<T*>(a.pages.keys) + head_offset(slots[t], h) + slots[t] % layout.page_tokens;
      if (tokens == lanes)
        write_key_columns(key, a.key.stride[0], lanes, layout.head_dim, to, layout.page_tokens);
      else
        for (int64_t i = 0; i < layout.head_dim; ++i) to[i * layout.page_tokens] = from_float<T>(key[i]);
    }
  }

  void operator()(int64_t begin, int64_t end) const {
    for (int64_t t = begin, n; t < end; t += n) {
      n = whole_columns(t, end) ? lanes : 1;
      put_keys(t, n);
    }
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < layout.num_kv_heads; ++h)
        put_value(static_cast<T*>(a.pages.values) + head_offset(slots[t], h) +
                      slots[t] % layout.page_tokens * layout.head_dim,
                  row(a.value, t, h), layout.head_dim);
  }
};

}  // namespace

void kv_write(exec& ex, const kv_write_args& a) {
  // Runs of 64 tokens, so that most of a prompt's columns are not cut between threads.
  constexpr int64_t run = 64;
  const int64_t tokens = a.key.shape[0], cost = 2 * a.key.shape[1] * a.key.shape[2];
  share(ex, (tokens + run - 1) / run, run * cost, [&](int64_t begin, int64_t end, int) {
    const auto write = [&](auto element) { writer<decltype(element)>{a}(begin * run, std::min(end * run, tokens)); };
    if (a.pages.layout.type == dtype::f16)
      write(f16{});
    else if (a.pages.layout.type == dtype::bf16)
      write(bf16{});
    else
      write(float{});
  });
}

}  // namespace ft::cpu::FT_ISA
