#include "runtime/encoder_batch.h"

namespace ft::runtime {

void encoder_batch::clear() {
  requests_.clear();
  embedded_.clear();
  for (auto* per_token : {&token_ids_, &positions_, &slots_}) per_token->clear();
  row_offsets_.resize(1);
}

void encoder_batch::add(request& r, page_pool& pool) {
  requests_.push_back(&r);
  const int64_t length = r.source_length();
  pool.cover(r.source_pages_, length);
  embedded_.add(r.soft_, 0, length, num_tokens());
  for (int64_t position = 0; position < length; ++position) {
    token_ids_.push_back(r.source_[static_cast<size_t>(position)]);
    positions_.push_back(static_cast<int32_t>(position));
    slots_.push_back(pool.slot_of(r.source_pages_, position));
  }
  row_offsets_.push_back(static_cast<int32_t>(token_ids_.size()));
}

void encoder_batch::compute(nn::run& run, const arch::network& network, const page_pool& pool) {
  arena::scope scope(run.activations);
  nn::ragged_batch batch;
  batch.num_tokens = num_tokens();
  batch.num_rows = static_cast<int64_t>(requests_.size());
  batch.embedded = embedded_.upload(run);
  tensor slots;
  integers_.clear();
  integers_.add(batch.token_ids, token_ids_);
  integers_.add(batch.positions, positions_);
  integers_.add(batch.row_offsets, row_offsets_);
  integers_.add(slots, slots_);
  integers_.upload(run);
  network.keep_cross(run, network.encode(run, batch), slots, pool.layers());
}

}  // namespace ft::runtime
