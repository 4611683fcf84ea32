// A decoding step's layers as models have them: what kernels cost in a row, where each waits for the one before.
#include <cmath>

#include "gpu/bench.h"
#include "gpu/tensors.h"
#include "ops/op_table.h"

namespace ft::test {
namespace {

constexpr int layers = 8;
constexpr int64_t context = 160, table_pages = 12, encoder_length = 128;

struct decoder_shape {
  int64_t rows, hidden, heads, kv_heads, head_dim, inner;
  bool gated = false;     // gate and up, else up with GELU
  bool parallel = false;  // one norm, attention and feed-forward side by side (GPT-J)
  bool cross = false;     // attention to an encoder in between (T5)
  bool rotary = true;
  norm_kind norm = norm_kind::layer;

  int64_t attended() const { return heads * head_dim; }
  int64_t projected() const { return (heads + 2 * kv_heads) * head_dim; }
};

struct product_weights {
  const packed_weight* weight = nullptr;
  const packed_bias* bias = nullptr;
};

struct decoder_layer {
  const float *norm[3] = {}, *norm_bias[3] = {};
  product_weights project, output, query, cross_output, up, down;
  kv_pages pages, cross_pages;
};

// The operations of the layers, one after another.
struct decoder_chain {
  decoder_shape s;
  tensor hidden, normed, projected, queries, attended, inner, angles, slots, page_table, row_offsets, lengths,
      cross_table, cross_lengths;
  std::vector<decoder_layer> layers;
  attention_options options;

  void run(exec& ex) const {
    for (const decoder_layer& l : layers) {
      norm(ex, l, 0);
      attend(ex, l);
      multiply(ex, l.output, attended.reshape({s.rows, s.attended()}), hidden, activation_kind::none, hidden);
      if (s.cross) attend_across(ex, l);
      if (s.parallel)
        multiply(ex, l.up, normed, inner, activation_kind::gelu_tanh);
      else
        widen(ex, l);
      multiply(ex, l.down, inner, hidden, activation_kind::none, hidden);
    }
  }

  // Bytes of weights that a layer reads.
  double layer_bytes() const {
    double bytes = 0;
    const decoder_layer& l = layers.front();
    for (const product_weights& w : {l.project, l.output, l.query, l.cross_output, l.up, l.down})
      if (w.weight) bytes += static_cast<double>(w.weight->bytes);
    return bytes;
  }

 private:
  void norm(exec& ex, const decoder_layer& l, int i) const {
    ops::norm(ex, {.out = normed, .x = hidden, .weight = l.norm[i], .bias = l.norm_bias[i], .kind = s.norm});
  }

  void multiply(exec& ex, const product_weights& w, const tensor& x, const tensor& out,
                activation_kind kind = activation_kind::none, const tensor& residual = {}) const {
    ops::linear(ex, {.out = out, .x = x, .weight = w.weight, .bias = w.bias, .activation = kind, .residual = residual});
  }

  void attend(exec& ex, const decoder_layer& l) const {
    multiply(ex, l.project, normed, projected);
    const int64_t key_at = s.attended(), value_at = key_at + s.kv_heads * s.head_dim;
    ops::paged_self_attention(ex, {.rotary_table = s.rotary ? angles : tensor(),
                                   .style = rotary_style::interleaved,
                                   .keys = {.key = projected.slice(1, key_at, value_at).split_last(s.kv_heads),
                                            .value = projected.slice(1, value_at, s.projected()).split_last(s.kv_heads),
                                            .slots = slots,
                                            .pages = l.pages},
                                   .attention = {.out = attended,
                                                 .query = projected.slice(1, 0, key_at).split_last(s.heads),
                                                 .pages = l.pages,
                                                 .page_table = page_table,
                                                 .row_offsets = row_offsets,
                                                 .context_lengths = lengths,
                                                 .options = options}});
  }

  void attend_across(exec& ex, const decoder_layer& l) const {
    norm(ex, l, 1);
    multiply(ex, l.query, normed, queries);
    ops::paged_attention(ex, {.out = attended,
                              .query = queries.split_last(s.heads),
                              .pages = l.cross_pages,
                              .page_table = cross_table,
                              .row_offsets = row_offsets,
                              .context_lengths = cross_lengths,
                              .causal = false,
                              .options = {.scale = options.scale}});
    multiply(ex, l.cross_output, attended.reshape({s.rows, s.attended()}), hidden, activation_kind::none, hidden);
  }

  void widen(exec& ex, const decoder_layer& l) const {
    norm(ex, l, 2);
    if (!s.gated) return multiply(ex, l.up, normed, inner, activation_kind::gelu);
    ops::gated_linear(
        ex, {.out = inner, .x = normed, .weight = l.up.weight, .bias = l.up.bias, .activation = activation_kind::silu});
  }
};

struct model {
  const char* name;
  decoder_shape shape;  // rows are set for each row
};

product_weights weight(tensors& m, int64_t out, int64_t in) { return {m.weight(out, in), m.bias(out)}; }

decoder_chain chain_of(tensors& m, const decoder_shape& s) {
  decoder_chain c{.s = s, .options = {.scale = 1 / std::sqrt(static_cast<float>(s.head_dim))}};
  const auto make = [&](std::initializer_list<int64_t> dims) { return m.make(dtype::f16, dims); };
  c.hidden = make({s.rows, s.hidden});
  c.normed = make({s.rows, s.hidden});
  c.projected = make({s.rows, s.projected()});
  c.queries = make({s.rows, s.attended()});
  c.attended = make({s.rows, s.heads, s.head_dim});
  c.inner = make({s.rows, s.inner});
  c.angles = m.make(dtype::f32, {s.rows, s.head_dim});
  std::vector<int32_t> table, slots, offsets{0};
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t i = 0; i < table_pages; ++i) table.push_back(static_cast<int32_t>(i * s.rows + r));
    slots.push_back(table[static_cast<size_t>(r * table_pages + (context - 1) / 16)] * 16 + (context - 1) % 16);
    offsets.push_back(static_cast<int32_t>(r + 1));
  }
  const auto all = [&](int64_t x) {
    return m.integers(std::vector<int32_t>(static_cast<size_t>(s.rows), static_cast<int32_t>(x)));
  };
  c.page_table = c.cross_table = m.integers(table).reshape({s.rows, table_pages});
  c.slots = m.integers(slots);
  c.row_offsets = m.integers(offsets);
  c.lengths = all(context);
  c.cross_lengths = all(encoder_length);
  const int64_t pool = s.rows * table_pages * 16 * s.kv_heads * s.head_dim;
  const auto pages = [&] {
    return kv_pages{m.fill(dtype::f16, pool), m.fill(dtype::f16, pool), {s.kv_heads, s.head_dim, 16, dtype::f16}};
  };
  for (int i = 0; i < layers; ++i) {
    decoder_layer& l = c.layers.emplace_back();
    for (int n = 0; n < 3; ++n) {
      l.norm[n] = m.make(dtype::f32, {s.hidden}).as<float>();
      if (s.norm == norm_kind::layer) l.norm_bias[n] = m.make(dtype::f32, {s.hidden}).as<float>();
    }
    l.project = weight(m, s.projected(), s.hidden);
    l.output = weight(m, s.hidden, s.attended());
    if (s.cross) {
      l.query = weight(m, s.attended(), s.hidden);
      l.cross_output = weight(m, s.hidden, s.attended());
      l.cross_pages = pages();
    }
    l.up = weight(m, s.gated ? 2 * s.inner : s.inner, s.hidden);
    l.down = weight(m, s.hidden, s.inner);
    l.pages = pages();
  }
  return c;
}

void run(const model& m, int64_t rows) {
  static tensors memory;
  memory.clear();
  gpu().scratch.reset();
  decoder_shape s = m.shape;
  s.rows = rows;
  const decoder_chain chain = chain_of(memory, s);
  chain.run(gpu());
  check(cudaStreamSynchronize(stream()), m.name);
  const double us = graph_milliseconds([&] { chain.run(gpu()); }) * 1e3 / layers;
  const double keys = static_cast<double>(rows * s.kv_heads * s.head_dim) *
                      static_cast<double>(4 * (context + (s.cross ? encoder_length : 0)));
  const double floor = (chain.layer_bytes() + keys) / copy_rate() * 1e6;
  std::printf("layer %-10s %2d rows   %8.2f us   floor %8.2f us (%5.1f %%)\n", m.name, static_cast<int>(rows), us,
              floor, 100 * floor / us);
  std::fflush(stdout);
}

}  // namespace

void run_layer_benchmarks(const char* filter) {
  const model models[] = {
      {"gpt-j", {1, 4096, 16, 16, 256, 16384, false, true}},
      {"llama-8b", {1, 4096, 32, 8, 128, 14336, true, false, false, true, norm_kind::rms}},
      {"t5-3b", {1, 1024, 32, 32, 128, 16384, false, false, true, false, norm_kind::rms}},
  };
  for (const model& m : models)
    for (int64_t rows : {1, 4, 8, 32})
      if (!filter || std::string(m.name).find(filter) != std::string::npos || !std::strcmp(filter, "layer"))
        run(m, rows);
}

}  // namespace ft::test
