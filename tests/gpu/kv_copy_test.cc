// kv_copy on the GPU: the used tokens arrive, keys and values, in every layer; nothing else changes.
#include "gpu/compare.h"

namespace ft::test {

TEST(pages_are_copied_in_every_layer) {
  draw d(run_seed());
  for (int64_t head_dim : {8, 9}) {  // whole vectors and not
    const kv_layout layout{3, head_dim, 16, dtype::f16};
    constexpr int64_t layers = 5, pages = 7;
    const int64_t token_bytes = 2 * head_dim, page_bytes = 3 * 16 * token_bytes, pool_bytes = pages * page_bytes;
    std::vector<uint8_t> bytes(static_cast<size_t>(2 * layers * pool_bytes));  // a layer's keys, its values, the next's
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(d.integer(0, 255));
    const std::vector<int32_t> from{2, 2, 6, 5}, to{0, 5, 1, 3}, tokens{16, 5, 1, 0};
    place on(gpu(), false);
    auto* first = static_cast<char*>(on.copy(bytes.data(), bytes.size()));
    ops::kv_copy(on.ex, {.pages = {first, first + pool_bytes, layout},
                         .from = on.put(from),
                         .to = on.put(to),
                         .tokens = on.put(tokens),
                         .layers = layers,
                         .layer_bytes = 2 * pool_bytes});
    std::vector<uint8_t> got(bytes.size());
    on.ex.download(got.data(), first, got.size());
    for (int64_t at = 0; at < static_cast<int64_t>(got.size()); ++at) {
      const int64_t page = at / page_bytes % pages, token = at / token_bytes % 16;
      const auto copy = std::find(to.begin(), to.end(), page) - to.begin();
      const bool is_copied = copy < std::ssize(to) && token < tokens[static_cast<size_t>(copy)];
      const int64_t source = is_copied ? at + (from[static_cast<size_t>(copy)] - page) * page_bytes : at;
      CHECK_MSG(got[static_cast<size_t>(at)] == bytes[static_cast<size_t>(source)], "page ", page, ", token ", token);
    }
  }
}

}  // namespace ft::test
