#include "runtime/worker/step_inputs.h"

#include <algorithm>
#include <bit>

namespace ft::runtime {

int64_t padded_rows(int64_t rows) {
  if (rows <= 32) return rows;
  const auto step = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows)) / 16);
  return (rows + step - 1) / step * step;
}

void step_inputs::stage(staged_upload& upload, const step_plan& plan, const kv_storage& pages, const padding& to,
                        int64_t vocab_size) {
  const int64_t rows = std::max(plan.num_rows(), to.rows), extra = rows - plan.num_rows();
  const int64_t tokens = plan.num_tokens() + extra;
  upload.begin();
  sampling.stage(upload, plan.sampling);
  upload.next_side();

  // Arrays with something for each of so many more rows behind them.
  const auto add_more = [&](tensor& on_device, const std::vector<int32_t>& values, int64_t more, int64_t width,
                            auto&& of_more) {
    const auto count = static_cast<int64_t>(values.size());
    if (count == 0) return void(on_device = {});
    int32_t* at = upload.add(on_device, count + more * width);
    std::ranges::copy(values, at);
    for (int64_t i = 0; i < more; ++i) std::fill_n(at + count + i * width, width, of_more(i));
  };
  const auto add = [&](tensor& on_device, const std::vector<int32_t>& values, int64_t width, auto&& of_extra) {
    add_more(on_device, values, extra, width, of_extra);
  };
  const auto constantly = [](int32_t value) { return [value](int64_t) { return value; }; };
  const auto first_slot = static_cast<int32_t>(to.page * pages.page_tokens());

  batch = {};
  batch.num_tokens = tokens;
  batch.num_rows = rows;
  batch.cache = &pages.layers();
  add(batch.token_ids, plan.token_ids, 1, constantly(0));
  add(batch.positions, plan.positions, 1, constantly(0));
  add(batch.slots, plan.slots, 1, constantly(first_slot));
  add(batch.row_offsets, plan.row_offsets, 1,
      [&](int64_t i) { return static_cast<int32_t>(plan.num_tokens() + i + 1); });
  add(batch.context_lengths, plan.context_lengths, 1, constantly(1));
  add(batch.page_table, plan.page_table, plan.table_width(), constantly(to.page));
  add(batch.cross_lengths, plan.cross_lengths, 1, constantly(1));
  add(batch.cross_page_table, plan.cross_page_table, plan.cross_table_width(), constantly(to.page));
  add(batch.shared.offsets, plan.group_offsets, 1,
      [&](int64_t i) { return static_cast<int32_t>(plan.num_rows() + i + 1); });
  add(batch.shared.lengths, plan.shared_lengths, 1, constantly(0));
  add(batch.cross_shared.lengths, plan.cross_shared_lengths, 1, constantly(0));

  scored_.clear();
  for (const scored_span& span : plan.scored)
    for (int64_t i = 0; i < span.count; ++i)
      scored_.push_back(static_cast<int32_t>(i % scored_block * vocab_size +
                                             std::max(0, plan.scored_ids[static_cast<size_t>(span.first_score + i)])));
  const int64_t logits_rows = plan.sampling.shape.total();
  add_more(logits_tokens, plan.sampling.tokens, to.rows > 0 ? padded_rows(logits_rows) - logits_rows : 0, 1,
           constantly(0));
  add_more(scored_at, scored_, 0, 1, constantly(0));
  upload.place();

  const auto as_table = [&](tensor& t) {
    if (t) t = t.reshape({rows, t.size() / rows});
  };
  as_table(batch.page_table);
  as_table(batch.cross_page_table);
  if (plan.widest_group == 0) batch.shared = batch.cross_shared = {};
  batch.shared.widest = batch.cross_shared.widest = plan.widest_group;
  batch.cross_shared.offsets = batch.shared.offsets;
  if (!batch.cross_page_table) batch.cross_shared = {};
}

}  // namespace ft::runtime
