// One sequence's keys and values, as a session keeps them.
#pragma once

#include <array>
#include <cstring>
#include <vector>

#include "archs/model_fixture.h"

namespace ft::test {

// Keys and values of one sequence, in pages that lie in reverse.
class one_sequence {
 public:
  one_sequence(const loaded_model& model, int num_pages) : num_pages_(num_pages) {
    const kv_layout layout{
        .num_kv_heads = model.network->num_kv_heads(), .head_dim = model.config.attention.head_dim, .page_tokens = 16};
    const size_t bytes = cpu_backend().kv_page_bytes(layout) * static_cast<size_t>(num_pages);
    for (int64_t i = 0; i < model.network->num_layers(); ++i) {
      memory_.emplace_back(host_memory(), bytes);
      memory_.emplace_back(host_memory(), bytes);
      layers_.push_back({memory_[memory_.size() - 2].data(), memory_.back().data(), layout});
    }
    for (buffer& b : memory_) std::memset(b.data(), 0xff, bytes);  // NaN: what is not written must not be read
    for (int page = num_pages; page-- > 0;) table_.push_back(page);
  }

  // The hidden states of `ids`, which follow the `done` tokens of before.
  std::vector<float> step(loaded_model& model, const std::vector<int32_t>& ids, int done) {
    std::vector<float> result;
    model.executor.compute(
        [&](nn::run& run) { result = loaded_model::copy(model.network->hidden(run, upload(run, ids, done))); });
    return result;
  }

  nn::ragged_batch upload(nn::run& run, const std::vector<int32_t>& ids, int done) const {
    const auto count = static_cast<int32_t>(ids.size());
    std::vector<int32_t> positions, slots;
    for (int32_t p = done; p < done + count; ++p) {
      positions.push_back(p);
      slots.push_back(slot_of(p));
    }
    nn::ragged_batch batch;
    batch.num_tokens = count;
    batch.num_rows = 1;
    batch.token_ids = runtime::upload_i32(run, ids);
    batch.positions = runtime::upload_i32(run, positions);
    batch.row_offsets = runtime::upload_i32(run, std::array<int32_t, 2>{0, count});
    batch.slots = runtime::upload_i32(run, slots);
    batch.page_table = page_table(run);
    batch.context_lengths = runtime::upload_i32(run, std::array<int32_t, 1>{done + count});
    batch.cache = &layers_;
    return batch;
  }

  tensor page_table(nn::run& run) const { return runtime::upload_i32(run, table_).reshape({1, num_pages_}); }
  int32_t slot_of(int32_t position) const { return table_[static_cast<size_t>(position / 16)] * 16 + position % 16; }
  const std::vector<kv_pages>& layers() const { return layers_; }

 private:
  int num_pages_;
  std::vector<buffer> memory_;
  std::vector<kv_pages> layers_;
  std::vector<int32_t> table_;
};

}  // namespace ft::test
