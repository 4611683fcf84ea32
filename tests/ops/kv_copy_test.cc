// kv_copy: pages arrive, keys and values, in every layer and every type of element; no other page changes.
#include "ops/harness.h"

namespace ft::test {

TEST(kv_copy_copies_pages_and_nothing_else) {
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16}) {
    const kv_layout layout{.num_kv_heads = 3, .head_dim = 8, .page_tokens = 16, .type = type};
    constexpr int layers = 3, pages = 7;
    const size_t page_bytes = cpu_backend().kv_page_bytes(layout);
    CHECK_EQ(page_bytes, bytes_of(type, 3 * 8 * 16));
    std::vector<char> keys(layers * pages * page_bytes), values(layers * pages * page_bytes);
    for (size_t i = 0; i < keys.size(); ++i)
      keys[i] = static_cast<char>(i * 7 / 3), values[i] = static_cast<char>(i * 5);
    const std::vector<char> keys_before = keys, values_before = values;
    const std::vector<int32_t> from = {2, 2, 6}, to = {0, 5, 1}, tokens = {16, 16, 16};
    for (auto& m : machines()) {
      keys = keys_before, values = values_before;
      ops::kv_copy(m->ex, {.pages = {keys.data(), values.data(), layout},
                           .from = vector_of(from),
                           .to = vector_of(to),
                           .tokens = vector_of(tokens),
                           .layers = layers,
                           .layer_bytes = static_cast<int64_t>(pages * page_bytes)});
      for (int page = 0; page < layers * pages; ++page) {
        int source = page;
        for (size_t i = 0; i < to.size(); ++i)
          if (to[i] == page % pages) source = page / pages * pages + from[i];
        const auto same = [&](const std::vector<char>& now, const std::vector<char>& before) {
          return std::memcmp(now.data() + page * page_bytes, before.data() + source * page_bytes, page_bytes) == 0;
        };
        CHECK_MSG(same(keys, keys_before) && same(values, values_before), m->name(), ", page ", page);
      }
    }
  }
}

}  // namespace ft::test
