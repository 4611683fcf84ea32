#include "runtime/forward.h"

#include <algorithm>
#include <cstring>

#include "core/status.h"
#include "ops/pool.h"
#include "ops/rows.h"
#include "runtime/packed_rows.h"

namespace ft::runtime {
namespace {

// Rows are taken through all layers in groups of about this many tokens, so that a group's activations stay in the
// cache (docs/performance.md has the sizes tried); a longer row is a group of its own.
constexpr int64_t group_tokens = 512;

// Logits of a large vocabulary are computed for this many rows at a time: they are far larger than anything else.
constexpr int64_t logit_rows = 128;

host_tensor zeros(std::initializer_list<int64_t> shape) {
  host_tensor t;
  t.view = tensor(nullptr, dtype::f32, shape);
  t.storage = buffer(host_memory(), std::max<size_t>(bytes_of(dtype::f32, t.view.size()), 1));
  t.view.data = t.storage.data();
  std::memset(t.view.data, 0, t.storage.bytes());
  return t;
}

// The state of one forward(): where each group's results go.
class pass {
 public:
  pass(model& m, const packed_rows& rows, const forward_request& wanted)
      : model_(m), config_(m.config()), rows_(rows), wanted_(wanted) {}

  forward_outputs run() {
    allocate();
    for (int64_t begin = 0; begin < rows_.num_rows();) {
      int64_t end = begin + 1;
      while (end < rows_.num_rows() && offset(end + 1) - offset(begin) <= group_tokens) ++end;
      model_.compute().compute([&](nn::run& run) { compute_group(run, begin, end); });
      begin = end;
    }
    return std::move(out_);
  }

 private:
  int64_t offset(int64_t row) const { return rows_.row_offsets[static_cast<size_t>(row)]; }
  bool per_sequence_head() const { return config_.head == arch::head_kind::sequence_classification; }
  bool language_model() const {
    return config_.head == arch::head_kind::causal_lm || config_.head == arch::head_kind::masked_lm;
  }

  host_tensor per_token(int64_t width) const {
    return rows_.seq ? zeros({rows_.batch, rows_.seq, width}) : zeros({rows_.num_places(), width});
  }

  void allocate() {
    const int64_t hidden = config_.output_size();
    if (wanted_.last_hidden_state) out_.last_hidden_state = per_token(hidden);
    if (wanted_.pooler_output) out_.pooler_output = zeros({rows_.num_rows(), hidden});
    if (wanted_.embedding) out_.embedding = zeros({rows_.num_rows(), hidden});
    if (!wanted_.logits) return;
    const int64_t width = language_model() ? config_.vocab_size : config_.num_labels;
    out_.logits = per_sequence_head() ? zeros({rows_.num_rows(), width}) : per_token(width);
  }

  template <class T>
  tensor upload_slice(nn::run& run, const std::vector<T>& values, int64_t begin, int64_t end) {
    return upload_i32(run, std::span(values).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
  }

  nn::ragged_batch upload(nn::run& run, int64_t first_row, int64_t end_row) {
    const int64_t begin = offset(first_row), end = offset(end_row);
    offsets_.clear();
    positions_.clear();
    for (int64_t row = first_row; row <= end_row; ++row) offsets_.push_back(static_cast<int32_t>(offset(row) - begin));
    for (int64_t row = first_row; row < end_row; ++row)
      for (int64_t t = offset(row); t < offset(row + 1); ++t)
        positions_.push_back(static_cast<int32_t>(t - offset(row)));

    nn::ragged_batch batch;
    batch.num_tokens = end - begin;
    batch.num_rows = end_row - first_row;
    batch.token_ids = upload_slice(run, rows_.token_ids, begin, end);
    if (!rows_.token_type_ids.empty()) batch.token_type_ids = upload_slice(run, rows_.token_type_ids, begin, end);
    batch.positions = upload_i32(run, positions_);
    batch.row_offsets = upload_i32(run, offsets_);
    return batch;
  }

  void compute_group(nn::run& run, int64_t first_row, int64_t end_row) {
    const nn::ragged_batch batch = upload(run, first_row, end_row);
    const tensor hidden = model_.network().hidden(run, batch);
    if (wanted_.last_hidden_state) scatter(run, hidden, offset(first_row), out_.last_hidden_state.view);
    if (wanted_.embedding) {
      const tensor rows = run.activations.make(dtype::f32, {batch.num_rows, config_.output_size()});
      ops::pool(run.ex, {.out = rows,
                         .x = hidden,
                         .row_offsets = batch.row_offsets,
                         .kind = wanted_.pooling.value_or(config_.pooling),
                         .normalize = wanted_.normalize});
      copy_rows(run, rows, first_row, out_.embedding.view);
    }
    if (wanted_.pooler_output)
      copy_rows(run, model_.network().pooled(run, first_tokens(run, batch, hidden)), first_row,
                out_.pooler_output.view);
    if (wanted_.logits) compute_logits(run, batch, hidden, first_row);
  }

  void compute_logits(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden, int64_t first_row) {
    if (per_sequence_head()) {
      copy_rows(run, model_.network().logits(run, first_tokens(run, batch, hidden)), first_row, out_.logits.view);
      return;
    }
    for (int64_t begin = 0; begin < batch.num_tokens; begin += logit_rows) {
      arena::scope scope(run.activations);
      const int64_t end = std::min(begin + logit_rows, batch.num_tokens);
      scatter(run, model_.network().logits(run, hidden.slice(0, begin, end)), offset(first_row) + begin,
              out_.logits.view);
    }
  }

  tensor first_tokens(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) {
    const tensor out = run.activations.make(dtype::f32, {batch.num_rows, hidden.dim(1)});
    ops::gather_rows(run.ex, {.out = out, .x = hidden, .index = batch.row_offsets.slice(0, 0, batch.num_rows)});
    return out;
  }

  // Packed rows [n, width], the first being token `first`, to their places in the caller's layout.
  void scatter(nn::run& run, const tensor& packed, int64_t first, const tensor& out) {
    FT_CHECK(packed.contiguous());
    const size_t row_bytes = bytes_of(dtype::f32, packed.dim(1));
    for (int64_t i = 0, n = packed.dim(0); i < n;) {  // runs of neighbours in one copy
      const int64_t place = rows_.place[static_cast<size_t>(first + i)];
      int64_t end = i + 1;
      while (end < n && rows_.place[static_cast<size_t>(first + end)] == place + (end - i)) ++end;
      run.ex.device.download(out.as<char>() + static_cast<size_t>(place) * row_bytes,
                             packed.as<char>() + static_cast<size_t>(i) * row_bytes,
                             static_cast<size_t>(end - i) * row_bytes);
      i = end;
    }
  }

  void copy_rows(nn::run& run, const tensor& rows, int64_t first_row, const tensor& out) {
    FT_CHECK(rows.contiguous() && rows.dim(1) == out.dim(1));
    run.ex.device.download(out.as<float>() + first_row * out.dim(1), rows.data, bytes_of(dtype::f32, rows.size()));
  }

  model& model_;
  const arch::model_config& config_;
  const packed_rows& rows_;
  const forward_request& wanted_;
  forward_outputs out_;
  std::vector<int32_t> offsets_, positions_;
};

void refuse_absent_outputs(const model& m, const forward_request& wanted) {
  const auto& config = m.config();
  if (wanted.pooler_output && !config.has_pooler)
    fail(FT_ERROR_UNSUPPORTED, "this ", config.architecture, " checkpoint has no pooler");
  if (wanted.logits && config.head == arch::head_kind::none)
    fail(FT_ERROR_UNSUPPORTED, "this ", config.architecture, " checkpoint has no head, so no logits");
}

}  // namespace

forward_request default_outputs(const model& m) {
  return {.last_hidden_state = true,
          .pooler_output = m.config().has_pooler,
          .logits = m.config().head != arch::head_kind::none};
}

forward_outputs forward(model& m, const forward_inputs& inputs, const forward_request& wanted) {
  refuse_absent_outputs(m, wanted);
  const auto& config = m.config();
  const packed_rows rows = pack_rows(inputs, config.vocab_size, config.type_vocab_size, config.max_positions);
  return pass(m, rows, wanted).run();
}

}  // namespace ft::runtime
