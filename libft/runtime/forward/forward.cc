#include "runtime/forward/forward.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/status.h"
#include "ops/elementwise.h"
#include "runtime/forward/packed_rows.h"
#include "runtime/plan/forward_plan.h"

namespace ft::runtime {
namespace {

// The state of one forward(): passes over groups of rows, and where their results go. An encoder-decoder has rows of
// two kinds: the encoder's and, when the decoder is to run, the decoder's.
class grouped_forward final : public forward_caller {
 public:
  grouped_forward(model& m, const packed_rows& rows, const packed_rows* decoder_rows, const forward_request& wanted)
      : model_(m), config_(m.config()), rows_(rows), decoder_rows_(decoder_rows), wanted_(wanted) {
    plan_.wanted = {.hidden = wanted.last_hidden_state,
                    .encoder_hidden = wanted.encoder_last_hidden_state,
                    .pooled = wanted.pooler_output,
                    .embedding = wanted.embedding,
                    .logits = wanted.logits};
    plan_.pooling = wanted.pooling.value_or(config_.pooling.kind);
    plan_.normalize = wanted.normalize;
  }

  forward_outputs run() {
    model_.compute().compute([&](nn::run& run) { allocate(run); });
    const int64_t group_tokens = model_.compute().device().tokens_per_pass();  // a longer row is a group of its own
    for (; begin_ < rows_.num_rows(); begin_ = end_) {
      end_ = begin_ + 1;
      while (end_ < rows_.num_rows() && tokens_of(begin_, end_ + 1) <= group_tokens) ++end_;
      fill(plan_.input, rows_);
      if (decoder_rows_) fill(plan_.target, *decoder_rows_);
      model_.ranks().run(plan_, *this);
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
    if (wanted_.logits)
      out_.logits = per_sequence_head() ? zeros(run, dtype::f32, {rows_.num_rows(), config_.logits_size()})
                                        : per_token(run, dtype::f32, output_rows(), config_.logits_size());
    if (wanted_.on_device) out_.ready = run.ex.device.mark(run.ex.stream);
    if (rows_.embeds_on_device || (decoder_rows_ && decoder_rows_->embeds_on_device))
      inputs_read_ = run.ex.device.mark(run.ex.stream);
  }

  // One side's rows of the group.
  void fill(forward_side& side, const packed_rows& rows) const {
    const int64_t begin = offset(rows, begin_), end = offset(rows, end_);
    const auto tokens = [&](const std::vector<int32_t>& values) {
      return std::span(values).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    };
    const auto copy = [](std::vector<int32_t>& to, std::span<const int32_t> from) {
      to.assign(from.begin(), from.end());
    };
    copy(side.token_ids, tokens(rows.token_ids));
    if (!rows.token_type_ids.empty()) copy(side.token_type_ids, tokens(rows.token_type_ids));
    side.row_offsets.clear();
    side.positions.resize(side.token_ids.size());
    for (int64_t row = begin_; row <= end_; ++row)
      side.row_offsets.push_back(static_cast<int32_t>(offset(rows, row) - begin));
    for (size_t row = 0; row + 1 < side.row_offsets.size(); ++row)
      std::iota(side.positions.begin() + side.row_offsets[row], side.positions.begin() + side.row_offsets[row + 1], 0);
    if (!rows.embeds) return;
    side.embedded = rows.embeds_on_device ? embedded_by::first_rank : embedded_by::plan;
    side.embedding_type = rows.embeds.type;
    if (rows.embeds_on_device) return;
    const int64_t width = rows.embeds.dim(-1);
    side.embeddings.resize(static_cast<size_t>((end - begin) * width));
    for (int64_t t = begin; t < end; ++t) rows.read_embedding(t, side.embeddings.data() + (t - begin) * width);
  }

  void give(nn::run& run, bool of_target, const tensor& out) override {
    const packed_rows& rows = of_target ? *decoder_rows_ : rows_;
    gather_embeddings(run.ex, rows, offset(rows, begin_), out);
    if (!run.ex.rehearses && inputs_read_) inputs_read_->move(run.ex.stream);
  }

  void take(nn::run& run, forward_output what, int64_t first, const tensor& rows) override {
    switch (what) {
      case forward_output::hidden:
        return scatter(run, output_rows(), rows, offset(output_rows(), begin_), out_.last_hidden_state.view);
      case forward_output::encoder_hidden:
        return scatter(run, rows_, rows, offset(rows_, begin_), out_.encoder_last_hidden_state.view);
      case forward_output::pooled:
        return copy_rows(run, rows, out_.pooler_output.view);
      case forward_output::embedding:
        return copy_rows(run, rows, out_.embedding.view);
      case forward_output::logits:
        if (per_sequence_head()) return copy_rows(run, rows, out_.logits.view);
        return scatter(run, output_rows(), rows, offset(output_rows(), begin_) + first, out_.logits.view);
    }
  }

  void end(nn::run& run) override {
    if (!run.ex.rehearses && out_.ready) out_.ready->move(run.ex.stream);
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

  // One vector a row of the group.
  void copy_rows(nn::run& run, const tensor& states, const tensor& out) {
    arena::scope scope(run.activations);
    const tensor rows = as(run, out.type, states);
    FT_CHECK(rows.contiguous() && rows.dim(1) == out.dim(1));
    put(run, out.as<char>() + bytes_of(out.type, begin_ * out.dim(1)), rows.data, bytes_of(out.type, rows.size()));
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
  forward_plan plan_;
  int64_t begin_ = 0, end_ = 0;                // the group's rows
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
  return grouped_forward(m, rows, decoder_rows ? &*decoder_rows : nullptr, wanted).run();
}

}  // namespace ft::runtime
