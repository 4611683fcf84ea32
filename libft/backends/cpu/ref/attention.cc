// The oracle for kv_write, kv_copy, attention and paged_attention. Keys lie in their pages as
// [kv_head][head_dim][page_tokens] and values as [kv_head][page_tokens][head_dim] (backends/cpu/kernels.h).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/ref/ref_ops.h"
#include "core/half.h"

namespace ft::cpu::ref {
namespace {

// Where one element lies in a layer's pool of pages: `slot` is page * page_tokens + position within the page.
struct page_index {
  explicit page_index(const kv_layout& l) : layout(l) {}

  int64_t key(int64_t slot, int64_t head, int64_t i) const {
    const int64_t page = slot / layout.page_tokens, token = slot % layout.page_tokens;
    return ((page * layout.num_kv_heads + head) * layout.head_dim + i) * layout.page_tokens + token;
  }
  int64_t value(int64_t slot, int64_t head, int64_t i) const {
    const int64_t page = slot / layout.page_tokens, token = slot % layout.page_tokens;
    return ((page * layout.num_kv_heads + head) * layout.page_tokens + token) * layout.head_dim + i;
  }

  const kv_layout& layout;
};

template <class T>
void write(const kv_write_args& a) {
  const page_index at(a.pages.layout);
  T* keys = static_cast<T*>(a.pages.keys);
  T* values = static_cast<T*>(a.pages.values);
  for (int64_t t = 0; t < a.key.shape[0]; ++t)
    for (int64_t h = 0; h < a.key.shape[1]; ++h)
      for (int64_t i = 0; i < a.key.shape[2]; ++i) {
        const int64_t slot = a.slots.as<int32_t>()[t];
        keys[at.key(slot, h, i)] = from_float<T>(a.key.as<float>()[t * a.key.stride[0] + h * a.key.stride[1] + i]);
        values[at.value(slot, h, i)] =
            from_float<T>(a.value.as<float>()[t * a.value.stride[0] + h * a.value.stride[1] + i]);
      }
}

// What is added to query head `head`'s score of the key `distance` tokens after it.
double bias_of(const attention_options& options, int64_t head, int64_t distance) {
  if (options.alibi_slopes) return double{options.alibi_slopes[head]} * static_cast<double>(distance);
  if (!options.relative_bias) return 0;
  const int64_t distances = options.relative_bias.shape[1], reach = distances / 2;
  return options.relative_bias.as<float>()[head * distances + std::clamp(distance, -reach, reach) + reach];
}

// One head of the query at `position` over the keys [first, last) of its row: key(j, i) and value(j, i) give their
// elements, `scores` has room for all of them.
template <class Key, class Value>
void attend(const float* query, float* out, int64_t head, int64_t head_dim, int64_t position, int64_t first,
            int64_t last, const attention_options& options, double* scores, Key key, Value value) {
  double largest = -INFINITY, sum = 0;
  for (int64_t j = first; j < last; ++j) {
    double s = 0;
    for (int64_t i = 0; i < head_dim; ++i) s += double{query[i]} * key(j, i);
    s *= options.scale;
    if (options.softcap > 0) s = options.softcap * std::tanh(s / options.softcap);
    s += bias_of(options, head, j - position);
    scores[j - first] = s;
    largest = std::max(largest, s);
  }
  for (int64_t j = first; j < last; ++j) sum += scores[j - first] = std::exp(scores[j - first] - largest);
  for (int64_t i = 0; i < head_dim; ++i) {
    double total = 0;
    for (int64_t j = first; j < last; ++j) total += scores[j - first] * value(j, i);
    out[i] = static_cast<float>(total / sum);
  }
}

int64_t first_key(int64_t position, int64_t window) {
  return window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;
}

template <class T>
void attend_pages(exec& ex, const paged_attention_args& a) {
  const page_index at(a.pages.layout);
  const int64_t heads = a.query.shape[1], head_dim = a.query.shape[2], page_tokens = at.layout.page_tokens;
  const int64_t group = heads / at.layout.num_kv_heads;
  const T* keys = static_cast<const T*>(a.pages.keys);
  const T* values = static_cast<const T*>(a.pages.values);
  const int32_t* offsets = a.row_offsets.as<int32_t>();
  for (int64_t r = 0; r < a.context_lengths.shape[0]; ++r) {
    const int64_t context = a.context_lengths.as<int32_t>()[r];
    const int32_t* pages = a.page_table.as<int32_t>() + r * a.page_table.stride[0];
    const auto slot = [&](int64_t j) { return pages[j / page_tokens] * page_tokens + j % page_tokens; };
    arena::scope scope(ex.scratch);
    double* scores = ex.scratch.make<double>(context);
    for (int64_t t = offsets[r]; t < offsets[r + 1]; ++t)
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t position = context - (offsets[r + 1] - t), g = h / group;
        attend(
            a.query.as<float>() + t * a.query.stride[0] + h * a.query.stride[1],
            a.out.as<float>() + (t * heads + h) * head_dim, h, head_dim, position,
            first_key(position, a.options.window), a.causal ? position + 1 : context, a.options, scores,
            [&](int64_t j, int64_t i) { return to_float(keys[at.key(slot(j), g, i)]); },
            [&](int64_t j, int64_t i) { return to_float(values[at.value(slot(j), g, i)]); });
      }
  }
}

// Calls f<T> for the type of the pages' elements.
template <class F>
void with_page_type(dtype type, F f) {
  if (type == dtype::f16) return f(f16{});
  if (type == dtype::bf16) return f(bf16{});
  f(float{});
}

}  // namespace

// Whole pages: a token's key is a column.
void kv_copy(exec& ex, const kv_copy_args& a) {
  const size_t bytes = ex.device.kv_page_bytes(a.pages.layout);
  for (int64_t layer = 0; layer < a.layers; ++layer)
    for (void* first : {a.pages.keys, a.pages.values}) {
      char* pool = static_cast<char*>(first) + layer * a.layer_bytes;
      for (int64_t i = 0; i < a.from.shape[0]; ++i) {
        if (a.tokens.as<int32_t>()[i] == 0) continue;
        std::memcpy(pool + static_cast<size_t>(a.to.as<int32_t>()[i]) * bytes,
                    pool + static_cast<size_t>(a.from.as<int32_t>()[i]) * bytes, bytes);
      }
    }
}

void kv_write(exec&, const kv_write_args& a) {
  with_page_type(a.pages.layout.type, [&](auto element) { write<decltype(element)>(a); });
}

void paged_attention(exec& ex, const paged_attention_args& a) {
  with_page_type(a.pages.layout.type, [&](auto element) { attend_pages<decltype(element)>(ex, a); });
}

void attention(exec& ex, const attention_args& a) {
  const int64_t heads = a.query.shape[1], head_dim = a.query.shape[2], group = heads / a.key.shape[1];
  const int32_t* offsets = a.row_offsets.as<int32_t>();
  const int32_t* key_offsets = (a.key_row_offsets ? a.key_row_offsets : a.row_offsets).as<int32_t>();
  const auto element = [](const tensor& x, int64_t t, int64_t h) {
    return x.as<float>() + t * x.stride[0] + h * x.stride[1];
  };
  for (int64_t r = 0; r + 1 < a.row_offsets.shape[0]; ++r) {
    const int64_t begin = offsets[r], length = offsets[r + 1] - begin;
    const int64_t keys_begin = key_offsets[r], keys = key_offsets[r + 1] - keys_begin;
    arena::scope scope(ex.scratch);
    double* scores = ex.scratch.make<double>(keys);
    for (int64_t p = 0; p < length; ++p) {
      const int64_t first = first_key(p, a.options.window), last = a.causal ? p + 1 : keys;
      for (int64_t h = 0; h < heads; ++h)
        attend(
            element(a.query, begin + p, h), a.out.as<float>() + ((begin + p) * heads + h) * head_dim, h, head_dim, p,
            first, last, a.options, scores,
            [&](int64_t j, int64_t i) { return element(a.key, keys_begin + j, h / group)[i]; },
            [&](int64_t j, int64_t i) { return element(a.value, keys_begin + j, h / group)[i]; });
    }
  }
}

}  // namespace ft::cpu::ref
