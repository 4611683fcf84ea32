// Each case is recorded into a graph that calls it over several sets of tensors, together larger than the cache, so
// that neither launches nor the cache make it look other than it is in a model. The time is the median of several
// replays.
//
// The floor is the bytes that must be read and written over the rate of a large copy on the same device; arithmetic is
// given as TFLOP/s.
#include "gpu/bench.h"

#include "gpu/tensors.h"

namespace ft::test {
namespace {

constexpr size_t cache_bytes = size_t{160} << 20;  // larger than any GPU's
constexpr int fewest_calls = 24;                   // so that a graph's start does not count

struct benchmark {
  std::string name;
  double bytes, operations;                             // of one call
  size_t set_bytes;                                     // of one set of tensors
  std::function<std::function<void()>(tensors&)> make;  // a set and the call on it
};

void run(const benchmark& b) {
  static tensors memory;
  memory.clear();
  gpu().scratch.reset();
  const auto sets = static_cast<int>(std::min<size_t>(64, cache_bytes / b.set_bytes + 1));
  std::vector<std::function<void()>> calls;
  for (int i = 0; i < sets; ++i) calls.push_back(b.make(memory));
  const int rounds = (fewest_calls + sets - 1) / sets;
  const auto all = [&] {
    for (int i = 0; i < rounds; ++i)
      for (const auto& call : calls) call();
  };
  all();  // what is done once only, scratch memory too
  check(cudaStreamSynchronize(stream()), b.name.c_str());
  gpu().scratch.reset();
  const double us = graph_milliseconds(all) * 1e3 / (sets * rounds), floor_us = b.bytes / copy_rate() * 1e6;
  std::printf("%-52s %9.2f us   floor %9.2f us (%5.1f %%)", b.name.c_str(), us, floor_us, 100 * floor_us / us);
  if (b.operations > 0) std::printf("   %6.1f TFLOP/s", b.operations / us * 1e-6);
  std::printf("\n");
  std::fflush(stdout);
}

benchmark norm_case(int64_t rows, int64_t width, bool residual) {
  const double elements = static_cast<double>(rows * width);
  return {cat("norm ", rows, " x ", width, residual ? " + residual" : ""), elements * 2 * (residual ? 4 : 2), 0,
          static_cast<size_t>(rows * width * 2 * (residual ? 3 : 2)), [=](tensors& m) -> std::function<void()> {
            norm_args a{.out = m.make(dtype::f16, {rows, width}), .x = m.make(dtype::f16, {rows, width})};
            if (residual) a.residual = a.sum = m.make(dtype::f16, {rows, width});
            a.weight = m.make(dtype::f32, {width}).as<float>();
            a.bias = m.make(dtype::f32, {width}).as<float>();
            return [=] { ops::norm(gpu(), a); };
          }};
}

benchmark gate_case(int64_t rows, int64_t width) {
  const double elements = static_cast<double>(rows * width);
  return {cat("gated_activation ", rows, " x ", width), elements * 6, 0, static_cast<size_t>(rows * width * 6),
          [=](tensors& m) -> std::function<void()> {
            const tensor both = m.make(dtype::f16, {rows, 2 * width});
            const gated_activation_args a{.out = m.make(dtype::f16, {rows, width}),
                                          .gate = both.slice(1, 0, width),
                                          .up = both.slice(1, width, 2 * width),
                                          .kind = activation_kind::silu};
            return [=] { ops::gated_activation(gpu(), a); };
          }};
}

benchmark activation_case(int64_t rows, int64_t width, activation_kind kind, const char* kind_name) {
  return {cat(kind_name, " ", rows, " x ", width), static_cast<double>(rows * width * 4), 0,
          static_cast<size_t>(rows * width * 2), [=](tensors& m) -> std::function<void()> {
            const tensor x = m.make(dtype::f16, {rows, width});
            return [=] { ops::activation(gpu(), {.out = x, .x = x, .kind = kind}); };
          }};
}

benchmark rotary_case(int64_t tokens, int64_t heads, int64_t head_dim, int64_t rotary_dim) {
  return {cat("rotary ", tokens, " x ", heads, " x ", head_dim, " (", rotary_dim, ")"),
          static_cast<double>(tokens * rotary_dim * (heads * 4 + 4)), 0,
          static_cast<size_t>(tokens * heads * head_dim * 2), [=](tensors& m) -> std::function<void()> {
            const tensor x = m.make(dtype::f16, {tokens, heads, head_dim});
            const tensor table = m.make(dtype::f32, {tokens, rotary_dim});
            return [=] { ops::rotary(gpu(), {.x = x, .table = table}); };
          }};
}

benchmark log_softmax_case(int64_t rows, int64_t width) {
  return {cat("log_softmax ", rows, " x ", width), static_cast<double>(rows * width * 8), 0,
          static_cast<size_t>(rows * width * 8), [=](tensors& m) -> std::function<void()> {
            const tensor x = m.make(dtype::f32, {rows, width}), out = m.make(dtype::f32, {rows, width});
            return [=] { ops::log_softmax(gpu(), {.out = out, .x = x}); };
          }};
}

benchmark argmax_case(int64_t rows, int64_t width) {
  return {cat("argmax ", rows, " x ", width), static_cast<double>(rows * width * 4), 0,
          static_cast<size_t>(rows * width * 4), [=](tensors& m) -> std::function<void()> {
            const tensor x = m.make(dtype::f32, {rows, width});
            const tensor out = m.integers(std::vector<int32_t>(static_cast<size_t>(rows)));
            return [=] { ops::argmax(gpu(), {.out = out, .x = x}); };
          }};
}

benchmark top_k_case(int64_t rows, int64_t width, int64_t k) {
  return {cat("top_k ", rows, " x ", width, ", k ", k), static_cast<double>(rows * width * 4), 0,
          static_cast<size_t>(rows * width * 4), [=](tensors& m) -> std::function<void()> {
            const tensor x = m.make(dtype::f32, {rows, width}), value = m.make(dtype::f32, {rows, k});
            const tensor index(m.make(dtype::f32, {rows, k}).data, dtype::i32, {rows, k});
            const tensor log_sum = m.make(dtype::f32, {rows});
            return [=] { ops::top_k(gpu(), {.value = value, .index = index, .log_sum = log_sum, .x = x}); };
          }};
}

benchmark sample_case(int64_t rows, int64_t width) {
  return {cat("sample ", rows, " x ", width), static_cast<double>(rows * width * 4), 0,
          static_cast<size_t>(rows * width * 4), [=](tensors& m) -> std::function<void()> {
            const tensor x = m.make(dtype::f32, {rows, width}), log_prob = m.make(dtype::f32, {rows});
            const tensor token = m.integers(std::vector<int32_t>(static_cast<size_t>(rows)));
            const std::vector<int32_t> half(static_cast<size_t>(2 * rows), 0x3fe00000);  // about 0.5 as doubles
            const tensor uniform(m.integers(half).data, dtype::f64, {rows});
            const std::vector<int32_t> one(static_cast<size_t>(rows), 0x3f800000);
            const tensor temperature(m.integers(one).data, dtype::f32, {rows});
            return [=] {
              ops::sample(
                  gpu(),
                  {.token = token, .log_prob = log_prob, .x = x, .uniform = uniform, .temperature = temperature});
            };
          }};
}

// The last `queries` tokens of each row's context, their keys in pages.
benchmark paged_case(const char* model, int64_t rows, int64_t queries, int64_t heads, int64_t kv_heads,
                     int64_t head_dim, int64_t context, int64_t max_context) {
  const int64_t pages = (context + 15) / 16, table_pages = (max_context + 15) / 16;
  const int64_t pool = rows * pages * 16 * kv_heads * head_dim;
  const double keys = static_cast<double>(rows * context * kv_heads * head_dim);
  const double pairs =
      queries > 1 ? static_cast<double>(rows * queries) * static_cast<double>(context - queries / 2) : 0;
  return {cat(queries > 1 ? "paged prompt " : "decode ", model, " ", rows, " x ", context, " of ", max_context),
          keys * 4, 4 * pairs * static_cast<double>(heads * head_dim), static_cast<size_t>(pool * 4),
          [=](tensors& m) -> std::function<void()> {
            std::vector<int32_t> table, offsets{0};
            for (int64_t r = 0; r < rows; ++r) {
              offsets.push_back(static_cast<int32_t>((r + 1) * queries));
              for (int64_t i = 0; i < table_pages; ++i)
                table.push_back(static_cast<int32_t>(i < pages ? i * rows + r : 0));
            }
            const paged_attention_args a{
                .out = m.make(dtype::f16, {rows * queries, heads, head_dim}),
                .query = m.make(dtype::f16, {rows * queries, heads, head_dim}),
                .pages = {m.fill(dtype::f16, pool), m.fill(dtype::f16, pool), {kv_heads, head_dim, 16, dtype::f16}},
                .page_table = m.integers(table).reshape({rows, table_pages}),
                .row_offsets = m.integers(offsets),
                .context_lengths =
                    m.integers(std::vector<int32_t>(static_cast<size_t>(rows), static_cast<int32_t>(context))),
                .options = {.scale = 1 / std::sqrt(static_cast<float>(head_dim))}};
            return [=] { ops::paged_attention(gpu(), a); };
          }};
}

benchmark decode_case(const char* model, int64_t rows, int64_t heads, int64_t kv_heads, int64_t head_dim,
                      int64_t context, int64_t max_context) {
  return paged_case(model, rows, 1, heads, kv_heads, head_dim, context, max_context);
}

benchmark prompt_case(const char* model, int64_t rows, int64_t tokens, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, bool causal, bool bias) {
  const int64_t all = rows * tokens;
  const double pairs = static_cast<double>(all) * static_cast<double>(tokens) * (causal ? 0.5 : 1.0);
  return {cat("prompt ", model, " ", rows, " x ", tokens),
          static_cast<double>(all * head_dim * 2 * (2 * heads + 2 * kv_heads)),
          4 * pairs * static_cast<double>(heads * head_dim),
          static_cast<size_t>(all * head_dim * 2 * (2 * heads + 2 * kv_heads)),
          [=](tensors& m) -> std::function<void()> {
            const tensor both = m.make(dtype::f16, {all, (heads + 2 * kv_heads) * head_dim});
            std::vector<int32_t> offsets;
            for (int64_t r = 0; r <= rows; ++r) offsets.push_back(static_cast<int32_t>(r * tokens));
            const int64_t key = heads * head_dim, value = key + kv_heads * head_dim;
            attention_args a{.out = m.make(dtype::f16, {all, heads, head_dim}),
                             .query = both.slice(1, 0, key).split_last(heads),
                             .key = both.slice(1, key, value).split_last(kv_heads),
                             .value = both.slice(1, value, both.dim(1)).split_last(kv_heads),
                             .row_offsets = m.integers(offsets),
                             .causal = causal,
                             .options = {.scale = 1 / std::sqrt(static_cast<float>(head_dim))}};
            if (bias) a.options.relative_bias = m.make(dtype::f32, {heads, 2 * 128 + 1});
            return [=] { ops::attention(gpu(), a); };
          }};
}

benchmark linear_case(const char* model, int64_t rows, int64_t in_features, int64_t out_features,
                      activation_kind kind = activation_kind::none) {
  const double elements = static_cast<double>(in_features * out_features + rows * (in_features + out_features));
  const bool activates = kind != activation_kind::none;
  return {cat("linear ", model, " ", rows, " x ", in_features, " x ", out_features,
              !activates                      ? ""
              : kind == activation_kind::gelu ? " + bias, gelu"
                                              : " + bias, gelu_tanh"),
          elements * 2, 2.0 * static_cast<double>(rows * in_features) * static_cast<double>(out_features),
          static_cast<size_t>(in_features * out_features * 2), [=](tensors& m) -> std::function<void()> {
            const packed_weight* weight = m.weight(out_features, in_features);
            const tensor x = m.make(dtype::f16, {rows, in_features}), out = m.make(dtype::f16, {rows, out_features});
            const packed_bias* bias = activates ? m.bias(out_features) : nullptr;
            return
                [=] { ops::linear(gpu(), {.out = out, .x = x, .weight = weight, .bias = bias, .activation = kind}); };
          }};
}

// The products of a decoder's layer: query, key and value; output; up (and gate); down.
void add_decoder_products(std::vector<benchmark>& cases, int64_t rows, activation_kind up) {
  cases.push_back(linear_case("gpt-j", rows, 4096, 12288));
  cases.push_back(linear_case("gpt-j", rows, 4096, 4096));
  cases.push_back(linear_case("gpt-j", rows, 4096, 16384, up));
  cases.push_back(linear_case("gpt-j", rows, 16384, 4096));
  cases.push_back(linear_case("llama-8b", rows, 4096, 6144));
  cases.push_back(linear_case("llama-8b", rows, 4096, 28672));
  cases.push_back(linear_case("llama-8b", rows, 14336, 4096));
  cases.push_back(linear_case("t5-3b", rows, 1024, 12288));
  cases.push_back(linear_case("t5-3b", rows, 1024, 4096));
  cases.push_back(linear_case("t5-3b", rows, 4096, 1024));
  cases.push_back(linear_case("t5-3b", rows, 1024, 16384));
  cases.push_back(linear_case("t5-3b", rows, 16384, 1024));
}

// Those, a head's, and encoders', of which the first of a feed-forward network comes with and without what follows it.
void add_linear_cases(std::vector<benchmark>& cases) {
  for (int64_t rows : {1, 4, 8, 32}) {
    add_decoder_products(cases, rows, activation_kind::none);
    cases.push_back(linear_case("gpt-j", rows, 4096, 50400));
  }
  for (int64_t rows : {64, 128, 256}) {
    add_decoder_products(cases, rows, activation_kind::gelu_tanh);
    cases.push_back(linear_case("bert-base", rows, 768, 2304));
    cases.push_back(linear_case("bert-base", rows, 768, 768));
    cases.push_back(linear_case("bert-base", rows, 768, 3072, activation_kind::gelu));
    cases.push_back(linear_case("bert-base", rows, 3072, 768));
  }
  for (activation_kind kind : {activation_kind::none, activation_kind::gelu}) {
    cases.push_back(linear_case("bert-base", 4096, 768, 3072, kind));
    cases.push_back(linear_case("bert-large", 4096, 1024, 4096, kind));
    cases.push_back(linear_case("bert-large", 16384, 1024, 4096, kind));
  }
}

}  // namespace

void run_benchmarks(const char* filter) {
  std::printf("a copy moves %.2f TB/s\n", copy_rate() * 1e-12);
  std::vector<benchmark> cases = {
      norm_case(1, 4096, true),
      norm_case(8, 4096, true),
      norm_case(4096, 768, true),
      norm_case(16384, 1024, true),
      norm_case(16384, 4096, true),
      norm_case(16384, 4096, false),
      gate_case(1, 14336),
      gate_case(4096, 14336),
      activation_case(16384, 4096, activation_kind::gelu, "gelu"),
      activation_case(16384, 4096, activation_kind::gelu_tanh, "gelu_tanh"),
      rotary_case(1, 40, 128, 128),
      rotary_case(16384, 40, 128, 128),
      rotary_case(4096, 32, 256, 64),
      log_softmax_case(4, 50400),
      log_softmax_case(32, 128256),
      argmax_case(1, 50400),
      argmax_case(32, 128256),
      top_k_case(4, 50400, 8),
      top_k_case(32, 50400, 8),
      top_k_case(32, 50400, 64),
      top_k_case(1, 128256, 64),
      top_k_case(1, 128256, 256),
      top_k_case(32, 128256, 256),
      sample_case(1, 128256),
      sample_case(32, 50400),
      decode_case("gpt-j", 1, 16, 16, 256, 160, 192),
      decode_case("gpt-j", 1, 16, 16, 256, 2048, 2048),
      decode_case("gpt-j", 8, 16, 16, 256, 160, 192),
      decode_case("gpt-j", 32, 16, 16, 256, 160, 192),
      decode_case("llama-8b", 1, 32, 8, 128, 160, 192),
      decode_case("llama-8b", 1, 32, 8, 128, 160, 8192),
      decode_case("llama-8b", 1, 32, 8, 128, 2048, 2048),
      decode_case("llama-8b", 1, 32, 8, 128, 8192, 8192),
      decode_case("llama-8b", 1, 32, 8, 128, 65536, 131072),
      decode_case("llama-8b", 32, 32, 8, 128, 160, 192),
      decode_case("llama-8b", 32, 32, 8, 128, 2048, 2048),
      decode_case("t5-3b", 32, 32, 32, 128, 128, 128),
      prompt_case("bert-base", 1, 128, 12, 12, 64, false, false),
      prompt_case("bert-base", 32, 128, 12, 12, 64, false, false),
      prompt_case("bert-large", 32, 512, 16, 16, 64, false, false),
      prompt_case("t5-3b", 8, 128, 32, 32, 128, false, true),
      prompt_case("gpt-j", 32, 128, 16, 16, 256, true, false),
      prompt_case("llama-8b", 1, 2048, 32, 8, 128, true, false),
      prompt_case("llama-8b", 8, 2048, 32, 8, 128, true, false),
      paged_case("llama-8b", 1, 2048, 32, 8, 128, 2048, 2048),
      paged_case("gpt-j", 32, 128, 16, 16, 256, 128, 128),
  };
  add_linear_cases(cases);
  for (const benchmark& b : cases)
    if (!filter || b.name.find(filter) != std::string::npos) run(b);
}

}  // namespace ft::test
