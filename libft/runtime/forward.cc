#include "runtime/forward.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/status.h"
#include "ops/elementwise.h"
#include "ops/pool.h"
#include "ops/rows.h"
#include "runtime/integer_upload.h"
#include "runtime/packed_rows.h"

namespace ft::runtime {
namespace {

// Logits of a large vocabulary are computed for this many rows at a time: they are far larger than anything else.
constexpr int64_t logit_rows = 128;

// The state of one forward(): where each group's results go. An encoder-decoder has rows of two kinds: the encoder's
// and, when the decoder is to run, the decoder's.
class pass {
 public:
  pass(model& m, const packed_rows& rows, const packed_rows* decoder_rows, const forward_request& wanted)
      : model_(m), config_(m.config()), rows_(rows), decoder_rows_(decoder_rows), wanted_(wanted) {}

  forward_outputs run() {
    model_.compute().compute([&](nn::run& run) { allocate(run); });
    const int64_t group_tokens = model_.compute().device().tokens_per_pass();  // a longer row is a group of its own
    for (int64_t begin = 0; begin < rows_.num_rows();) {
      int64_t end = begin + 1;
      while (end < rows_.num_rows() && tokens_of(begin, end + 1) <= group_tokens) ++end;
      model_.compute().compute([&](nn::run& run) {
        compute_group(run, begin, end);
        if (wanted_.on_device && end == rows_.num_rows()) out_.ready = run.ex.device.mark(run.ex.stream);
      });
      begin = end;
    }
    if (inputs_read_) inputs_read_->wait();  // their owner may change or free them from now on
    return std::move(out_);
  }

 private:
  static int64_t offset(const packed_rows& rows, int64_t row) { return rows.row_offsets[static_cast<size_t>(row)]; }
  int64_t tokens_of(int64_t begin, int64_t end) const {
    const int64_t tokens = offset(rows_, end) - offset(rows_, begin);
    return tokens + (decoder_rows_ ? offset(*decoder_rows_, end) - offset(*decoder_rows_, begin) : 0);
  }
  bool per_sequence_head() const { return config_.head.kind == arch::head_kind::sequence_classification; }
  bool language_model() const {
    return config_.head.kind == arch::head_kind::causal_lm || config_.head.kind == arch::head_kind::masked_lm;
  }

  // The rows that last_hidden_state and logits are of.
  const packed_rows& output_rows() const { return decoder_rows_ ? *decoder_rows_ : rows_; }

  owned_tensor zeros(nn::run& run, dtype on_device_type, std::initializer_list<int64_t> shape) const {
    owned_tensor t;
    t.view = tensor(nullptr, wanted_.on_device ? on_device_type : dtype::f32, shape);
    if (wanted_.on_device) t.from = model_.compute().device_memory();
    t.storage = buffer(t.from ? *t.from : host_memory(), std::max<size_t>(bytes_of(t.view.type, t.view.size()), 1));
    t.view.data = t.storage.data();
    if (wanted_.on_device)
      run.ex.clear(t.view.data, t.storage.bytes());
    else
      std::memset(t.view.data, 0, t.storage.bytes());
    return t;
  }

  // Zeros in the layout that the caller gave the rows.
  owned_tensor per_token(nn::run& run, dtype on_device_type, const packed_rows& rows, int64_t width) const {
    return rows.seq ? zeros(run, on_device_type, {rows.batch, rows.seq, width})
                    : zeros(run, on_device_type, {rows.num_places(), width});
  }

  void allocate(nn::run& run) {
    const int64_t hidden = config_.output_size();
    const dtype type = run.activation_type;
    if (wanted_.last_hidden_state) out_.last_hidden_state = per_token(run, type, output_rows(), hidden);
    if (wanted_.encoder_last_hidden_state) out_.encoder_last_hidden_state = per_token(run, type, rows_, hidden);
    if (wanted_.pooler_output) out_.pooler_output = zeros(run, type, {rows_.num_rows(), hidden});
    if (wanted_.embedding) out_.embedding = zeros(run, dtype::f32, {rows_.num_rows(), hidden});
    if (!wanted_.logits) return;
    const int64_t width = language_model() ? config_.tokens.vocab_size : config_.head.num_labels;
    out_.logits = per_sequence_head() ? zeros(run, dtype::f32, {rows_.num_rows(), width})
                                      : per_token(run, dtype::f32, output_rows(), width);
  }

  // Of the tokens from `begin` to `end`; valid until the next call.
  std::span<const nn::embedded_rows> upload_embeddings(nn::run& run, const packed_rows& rows, int64_t begin,
                                                       int64_t end) {
    const int64_t width = rows.embeds.dim(-1);
    if (rows.embeds_on_device) {
      embedded_.rows = run.activations.make(rows.embeds.type, {end - begin, width});
      gather_embeddings(run.ex, rows, begin, embedded_.rows);
      inputs_read_ = run.ex.device.mark(run.ex.stream);
      return {&embedded_, 1};
    }
    given_.resize(static_cast<size_t>((end - begin) * width));
    for (int64_t t = begin; t < end; ++t) rows.read_embedding(t, given_.data() + (t - begin) * width);
    embedded_.rows = run.activations.make(dtype::f32, {end - begin, width});
    run.ex.upload(embedded_.rows.data, given_.data(), given_.size() * sizeof(float));
    return {&embedded_, 1};
  }

  nn::ragged_batch upload(nn::run& run, const packed_rows& rows, int64_t first_row, int64_t end_row) {
    const int64_t begin = offset(rows, first_row), end = offset(rows, end_row);
    offsets_.clear();
    positions_.resize(static_cast<size_t>(end - begin));
    for (int64_t row = first_row; row <= end_row; ++row)
      offsets_.push_back(static_cast<int32_t>(offset(rows, row) - begin));
    for (size_t row = 0; row + 1 < offsets_.size(); ++row)
      std::iota(positions_.begin() + offsets_[row], positions_.begin() + offsets_[row + 1], 0);

    nn::ragged_batch batch;
    batch.num_tokens = end - begin;
    batch.num_rows = end_row - first_row;
    if (rows.embeds) batch.embedded = upload_embeddings(run, rows, begin, end);
    const auto tokens = [&](const std::vector<int32_t>& values) {
      return std::span(values).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    };
    integers_.clear();
    integers_.add(batch.token_ids, tokens(rows.token_ids));
    if (!rows.token_type_ids.empty()) integers_.add(batch.token_type_ids, tokens(rows.token_type_ids));
    integers_.add(batch.positions, positions_);
    integers_.add(batch.row_offsets, offsets_);
    integers_.upload(run);
    return batch;
  }

  void compute_group(nn::run& run, int64_t first_row, int64_t end_row) {
    const nn::ragged_batch input = upload(run, rows_, first_row, end_row);
    const tensor states = first_stack(run, input);
    if (!config_.is_encoder_decoder) return compute_outputs(run, input, states, first_row);
    if (wanted_.encoder_last_hidden_state)
      scatter(run, rows_, states, offset(rows_, first_row), out_.encoder_last_hidden_state.view);
    if (wanted_.embedding) compute_embedding(run, input, states, first_row);
    if (!decoder_rows_) return;
    nn::ragged_batch batch = upload(run, *decoder_rows_, first_row, end_row);
    batch.encoder_states = states;
    batch.encoder_row_offsets = input.row_offsets;
    compute_outputs(run, batch, model_.network().hidden(run, batch), first_row);
  }

  // The states of the only stack, or of the encoder.
  tensor first_stack(nn::run& run, const nn::ragged_batch& batch) {
    const pass_shape shape{.tokens = batch.num_tokens,
                           .rows = batch.num_rows,
                           .embeds = batch.embedded.empty() ? std::nullopt : std::optional(batch.embedded[0].rows.type),
                           .type_ids = static_cast<bool>(batch.token_type_ids)};
    const arch::network& network = model_.network();
    return model_.recorded_forwards().compute(run, shape, [&](nn::run& r) {
      return config_.is_encoder_decoder ? network.encode(r, batch) : network.hidden(r, batch);
    });
  }

  void compute_embedding(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden, int64_t first_row) {
    const tensor rows = run.activations.make(dtype::f32, {batch.num_rows, config_.output_size()});
    ops::pool(run.ex, {.out = rows,
                       .x = hidden,
                       .row_offsets = batch.row_offsets,
                       .kind = wanted_.pooling.value_or(config_.pooling.kind),
                       .normalize = wanted_.normalize});
    copy_rows(run, rows, first_row, out_.embedding.view);
  }

  void compute_outputs(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden, int64_t first_row) {
    const packed_rows& rows = output_rows();
    if (wanted_.last_hidden_state) scatter(run, rows, hidden, offset(rows, first_row), out_.last_hidden_state.view);
    if (wanted_.embedding && !config_.is_encoder_decoder) compute_embedding(run, batch, hidden, first_row);
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
      scatter(run, output_rows(), model_.network().logits(run, hidden.slice(0, begin, end)),
              offset(output_rows(), first_row) + begin, out_.logits.view);
    }
  }

  tensor first_tokens(nn::run& run, const nn::ragged_batch& batch, const tensor& hidden) {
    const tensor out = run.make({batch.num_rows, hidden.dim(1)});
    ops::gather_rows(run.ex, {.out = out, .x = hidden, .index = batch.row_offsets.slice(0, 0, batch.num_rows)});
    return out;
  }

  // The output's dtype may be another than the activations'.
  static tensor as(nn::run& run, dtype type, const tensor& x) {
    if (x.type == type) return x;
    const tensor out = run.activations.make(type, {x.dim(0), x.dim(1)});
    ops::scale(run.ex, {.out = out, .x = x});
    return out;
  }

  // Packed rows [n, width], the first being token `first`, to their places in the caller's layout.
  void scatter(nn::run& run, const packed_rows& rows, const tensor& states, int64_t first, const tensor& out) {
    arena::scope scope(run.activations);
    const tensor packed = as(run, out.type, states);
    FT_CHECK(packed.contiguous());
    const size_t row_bytes = bytes_of(out.type, packed.dim(1));
    for (int64_t i = 0, n = packed.dim(0); i < n;) {  // runs of neighbours in one copy
      const int64_t place = rows.place[static_cast<size_t>(first + i)];
      int64_t end = i + 1;
      while (end < n && rows.place[static_cast<size_t>(first + end)] == place + (end - i)) ++end;
      put(run, out.as<char>() + static_cast<size_t>(place) * row_bytes,
          packed.as<char>() + static_cast<size_t>(i) * row_bytes, static_cast<size_t>(end - i) * row_bytes);
      i = end;
    }
  }

  void copy_rows(nn::run& run, const tensor& states, int64_t first_row, const tensor& out) {
    arena::scope scope(run.activations);
    const tensor rows = as(run, out.type, states);
    FT_CHECK(rows.contiguous() && rows.dim(1) == out.dim(1));
    put(run, out.as<char>() + bytes_of(out.type, first_row * out.dim(1)), rows.data, bytes_of(out.type, rows.size()));
  }

  void put(nn::run& run, void* to, const void* from, size_t bytes) {
    if (wanted_.on_device)
      run.ex.copy(to, from, bytes);
    else
      run.ex.download(to, from, bytes);
  }

  model& model_;
  const arch::model_config& config_;
  const packed_rows& rows_;
  const packed_rows* decoder_rows_;  // null: the decoder, if there is one, does not run
  const forward_request& wanted_;
  forward_outputs out_;
  std::vector<int32_t> offsets_, positions_;
  integer_upload integers_;
  std::vector<float> given_;  // embeddings
  nn::embedded_rows embedded_;
  std::shared_ptr<stream_point> inputs_read_;  // those that lie on the device
};

void refuse_absent_outputs(const model& m, const forward_request& wanted) {
  const auto& config = m.config();
  if (wanted.pooler_output && !config.head.has_pooler)
    fail(FT_ERROR_UNSUPPORTED, "this ", config.architecture, " checkpoint has no pooler");
  if (wanted.logits && config.head.kind == arch::head_kind::none)
    fail(FT_ERROR_UNSUPPORTED, "this ", config.architecture, " checkpoint has no head, so no logits");
  if (wanted.encoder_last_hidden_state && !config.is_encoder_decoder)
    fail(FT_ERROR_UNSUPPORTED, "a ", config.architecture, " is no encoder-decoder: its states are last_hidden_state");
}

}  // namespace

forward_request default_outputs(const model& m) {
  return {.last_hidden_state = true,
          .pooler_output = m.config().head.has_pooler,
          .logits = m.config().head.kind != arch::head_kind::none,
          .encoder_last_hidden_state = m.config().is_encoder_decoder};
}

forward_outputs forward(model& m, const forward_inputs& inputs, const forward_request& wanted) {
  refuse_absent_outputs(m, wanted);
  const auto& config = m.config();
  const bool two_sided = config.is_encoder_decoder;
  const packed_rows rows = pack_rows(inputs, two_sided ? config.tokens.encoder_vocab_size : config.tokens.vocab_size,
                                     config.tokens.type_vocab_size, config.positions.max, config.output_size());
  if (!two_sided && (inputs.decoder_input_ids || inputs.decoder_inputs_embeds || inputs.decoder_attention_mask ||
                     inputs.decoder_row_offsets))
    fail(FT_ERROR_INVALID_ARGUMENT, "inputs of a decoder are given, but a ", config.architecture,
         " is no encoder-decoder");
  std::optional<packed_rows> decoder_rows;
  if (two_sided && (wanted.last_hidden_state || wanted.logits)) {
    decoder_rows = pack_decoder_rows(inputs, config.tokens.vocab_size, config.positions.max, config.output_size());
    if (decoder_rows->num_rows() != rows.num_rows())
      fail(FT_ERROR_INVALID_ARGUMENT, "there are ", rows.num_rows(), " rows for the encoder and ",
           decoder_rows->num_rows(), " for the decoder; they must be as many");
  }
  // Inside a pass, since what another thread's pass records must not take this in.
  m.compute().compute([&](nn::run& run) {
    for (const auto& ready : {inputs.embeds_ready, inputs.decoder_embeds_ready})
      if (ready) ready->hold(run.ex.stream);
  });
  return pass(m, rows, decoder_rows ? &*decoder_rows : nullptr, wanted).run();
}

}  // namespace ft::runtime
