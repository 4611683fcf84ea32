// kv_write, alone and with the rotary positions before it, and kv_copy; kv_page.h says how a page is laid out.
#include "backends/cuda/attention/kv_page.h"
#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/kernel/launch.h"
#include "backends/cuda/kernel/rotary_pairs.h"

namespace ft::cuda {
namespace {

constexpr int copy_threads = 256;

// V elements of a token's key and of its value; columns count through the token's heads.
template <class T, class Page, int V>
struct write_vector {
  head_view<const T> key, value;
  Page *keys, *values;
  const int32_t* slots;
  page_shape shape;

  __device__ void operator()(int64_t token, int column) const {
    const int head = column / shape.head_dim, i = column % shape.head_dim, slot = slots[token];
    const int64_t to = shape.begin(slot / shape.page_tokens, head, slot % shape.page_tokens) + i;
    float v[V];
    load<V>(key.at(token, head) + i, v);
    store<V>(keys + to, v);
    load<V>(value.at(token, head) + i, v);
    store<V>(values + to, v);
  }
};

// V elements, or V pairs, of what a token brings: columns count, V at a time, through the pairs of the query heads and
// of the key heads, the elements of the key heads behind the pairs, and the elements of the values.
template <class T, class Page, int V>
struct turn_and_write_vector {
  head_view<T> query;
  head_view<const T> key, value;
  Page *keys, *values;
  const int32_t* slots;
  page_shape shape;
  rotary_pairs pairs;
  int heads;

  __device__ void operator()(int64_t token, int column) const {
    int at = column * V;
    if (at < heads * pairs.n) {
      T* head = query.at(token, at / pairs.n);
      return pairs.turn<V>(token, at % pairs.n, static_cast<const T*>(head), head);
    }
    at -= heads * pairs.n;
    const int slot = slots[token], page = slot / shape.page_tokens, place = slot % shape.page_tokens;
    if (at < shape.kv_heads * pairs.n) {
      const int head = at / pairs.n;
      return pairs.turn<V>(token, at % pairs.n, key.at(token, head), keys + shape.begin(page, head, place));
    }
    at -= shape.kv_heads * pairs.n;
    const int rest = shape.head_dim - 2 * pairs.n;
    const bool of_key = at < shape.kv_heads * rest;
    if (!of_key) at -= shape.kv_heads * rest;
    const int width = of_key ? rest : shape.head_dim, head = at / width, i = at % width + (of_key ? 2 * pairs.n : 0);
    float v[V];
    load<V>((of_key ? key : value).at(token, head) + i, v);
    store<V>((of_key ? keys : values) + shape.begin(page, head, place) + i, v);
  }
};

// The first tokens[i] tokens of page from[i] onto page to[i], a block's share of them, in the 16-byte (or 1-byte) words
// of which a head of a token has token_words.
template <class Word>
__global__ void __launch_bounds__(copy_threads)
    copy_tokens(Word* keys, Word* values, const int32_t* from, const int32_t* to, const int32_t* tokens, int count,
                int heads, int page_tokens, int token_words, int64_t layer_words) {
  await_previous_kernel();
  const int i = blockIdx.x % count, layer = blockIdx.x / count;
  const int head_words = tokens[i] * token_words, words = heads * head_words;
  if (words == 0) return;
  const int64_t page_words = static_cast<int64_t>(heads) * page_tokens * token_words, first = layer * layer_words;
  const int64_t source = first + from[i] * page_words, target = first + to[i] * page_words;
#pragma unroll 4
  for (int w = blockIdx.y * copy_threads + threadIdx.x; w < words; w += gridDim.y * copy_threads) {
    const int at = w / head_words * page_tokens * token_words + w % head_words;
    keys[target + at] = keys[source + at];
    values[target + at] = values[source + at];
  }
}

template <class Word>
void copy_pages(exec& ex, const kv_copy_args& a) {
  const kv_layout& layout = a.pages.layout;
  const auto count = static_cast<int>(a.from.shape[0]);
  if (count == 0) return;
  const auto token_words = static_cast<int>(bytes_of(layout.type, layout.head_dim) / sizeof(Word));
  const int64_t page_words = layout.num_kv_heads * layout.page_tokens * token_words;
  constexpr int64_t words_of_thread = 8;
  const dim3 grid(grid_size(count * a.layers, "kv_copy"),
                  static_cast<unsigned>(ceil_div(page_words, copy_threads * words_of_thread)));
  launch_kernel(ex, "kv_copy", {grid, copy_threads}, copy_tokens<Word>, static_cast<Word*>(a.pages.keys),
                static_cast<Word*>(a.pages.values), a.from.as<const int32_t>(), a.to.as<const int32_t>(),
                a.tokens.as<const int32_t>(), count, static_cast<int>(layout.num_kv_heads),
                static_cast<int>(layout.page_tokens), token_words, a.layer_bytes / static_cast<int64_t>(sizeof(Word)));
}

}  // namespace

void kv_write(exec& ex, const kv_write_args& a) {
  const kv_layout& layout = a.pages.layout;
  const bool wide = in_vectors({&a.key, &a.value}) && in_vectors(a.pages.keys) && in_vectors(a.pages.values);
  with_float(a.key.type, [&](auto element) {
    with_float(layout.type, [&](auto stored) {
      with_width(wide, [&](auto v) {
        using T = decltype(element);
        using Page = decltype(stored);
        launch_for_each<v.value>(
            ex, "kv_write", a.key.shape[0], layout.num_kv_heads * layout.head_dim,
            write_vector<T, Page, v.value>{heads_of<const T>(a.key), heads_of<const T>(a.value),
                                           static_cast<Page*>(a.pages.keys), static_cast<Page*>(a.pages.values),
                                           a.slots.as<int32_t>(), shape_of(layout)});
      });
    });
  });
}

void rotary_kv_write(exec& ex, const rotary_kv_write_args& a) {
  const kv_write_args& w = a.keys;
  const kv_layout& layout = w.pages.layout;
  const int64_t heads = a.query.shape[1], n = a.table.shape[1] / 2;
  const int64_t elements = (heads + layout.num_kv_heads) * n + layout.num_kv_heads * (2 * layout.head_dim - 2 * n);
  const bool wide = n % vector_width == 0 && in_vectors({&a.query, &w.key, &w.value}) && in_vectors(a.table.data) &&
                    in_vectors(w.pages.keys) && in_vectors(w.pages.values);
  const rotary_pairs pairs{a.table.as<float>(), static_cast<int>(n), a.style == rotary_style::half};
  with_float(w.key.type, [&](auto element) {
    with_float(layout.type, [&](auto stored) {
      with_width(wide, [&](auto v) {
        using T = decltype(element);
        using Page = decltype(stored);
        launch_for_each<1>(ex, "rotary_kv_write", w.key.shape[0], elements / v.value,
                           turn_and_write_vector<T, Page, v.value>{
                               heads_of<T>(a.query), heads_of<const T>(w.key), heads_of<const T>(w.value),
                               static_cast<Page*>(w.pages.keys), static_cast<Page*>(w.pages.values),
                               w.slots.as<int32_t>(), shape_of(layout), pairs, static_cast<int>(heads)});
      });
    });
  });
}

void kv_copy(exec& ex, const kv_copy_args& a) {
  const kv_layout& layout = a.pages.layout;
  const bool wide = bytes_of(layout.type, layout.head_dim) % sizeof(uint4) == 0 && a.layer_bytes % sizeof(uint4) == 0 &&
                    in_vectors(a.pages.keys) && in_vectors(a.pages.values);
  if (wide)
    copy_pages<uint4>(ex, a);
  else
    copy_pages<uint8_t>(ex, a);
}

}  // namespace ft::cuda
