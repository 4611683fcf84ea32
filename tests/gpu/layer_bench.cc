// A decoding step's layers as models have them: what kernels cost in a row, where each waits for the one before.
#include <cmath>

#include "gpu/bench.h"
#include "gpu/decoder_chain.h"
#include "gpu/tensors.h"

namespace ft::test {
namespace {

constexpr int layers = 8;
constexpr int64_t context = 160, table_pages = 12, encoder_length = 128;

struct model {
  const char* name;
  decoder_shape shape;  // rows are set for each row
};

product_weights weight(tensors& m, int64_t out, int64_t in) {
  return {m.weight(out, in), m.make(dtype::f32, {out}).as<float>()};
}

decoder_chain chain_of(tensors& m, const decoder_shape& s) {
  decoder_chain c{.s = s, .options = {.scale = 1 / std::sqrt(static_cast<float>(s.head_dim))}};
  const auto make = [&](std::initializer_list<int64_t> dims) { return m.make(dtype::f16, dims); };
  c.hidden = make({s.rows, s.hidden});
  c.normed = make({s.rows, s.hidden});
  c.projected = make({s.rows, s.projected()});
  c.queries = make({s.rows, s.attended()});
  c.attended = make({s.rows, s.heads, s.head_dim});
  c.inner = make({s.rows, s.gated ? 2 * s.inner : s.inner});
  c.gated = make({s.rows, s.inner});
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
