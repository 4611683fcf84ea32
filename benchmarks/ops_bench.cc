// Times attention, norms and activations on the shapes of all-MiniLM-L6-v2 and SmolLM2-135M, and attention with biases
// and to an encoder on those of BLOOM-560m and T5-base, on every level of kernels.
//
//   ops_bench [threads] [level]     the best of many repetitions, in microseconds, with GFLOP/s or GB/s
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "backends/cpu/kernels.h"

namespace {

using namespace ft;

std::vector<float> noise(int64_t n) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = normal(engine);
  return v;
}

std::vector<int32_t> counted(int64_t n, int32_t step) {
  std::vector<int32_t> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<int32_t>(i) * step;
  return v;
}

tensor view(std::vector<int32_t>& v) { return tensor(v.data(), dtype::i32, {static_cast<int64_t>(v.size())}); }

// Repeats f for a quarter of a second and prints the best time; `work` is in units of 1e9 (GFLOP or GB).
template <class F>
void measure(const std::string& what, double work, const char* unit, F&& f) {
  using clock = std::chrono::steady_clock;
  const auto end = clock::now() + std::chrono::milliseconds(250);
  double best = 1e9;
  do {
    const auto start = clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(clock::now() - start).count());
  } while (clock::now() < end);
  std::printf("  %-58s %9.1f us %8.1f %s\n", what.c_str(), best * 1e6, work * 1e-9 / best, unit);
}

enum class bias_kind { none, alibi, relative };

// What is added to scores by distance, and its name.
class bias {
 public:
  bias(bias_kind kind, int64_t heads) : kind_(kind) {
    if (kind == bias_kind::alibi) values_ = noise(heads);
    if (kind == bias_kind::relative) values_ = noise(heads * distances);
    if (kind == bias_kind::alibi) options_.alibi_slopes = values_.data();
    if (kind == bias_kind::relative) options_.relative_bias = tensor(values_.data(), dtype::f32, {heads, distances});
  }
  attention_options options(int64_t head_dim) const {
    attention_options o = options_;
    o.scale = 1 / std::sqrt(static_cast<float>(head_dim));
    return o;
  }
  const char* name() const {
    return kind_ == bias_kind::alibi ? ", ALiBi" : kind_ == bias_kind::relative ? ", relative" : "";
  }

 private:
  static constexpr int64_t distances = 2 * 128 + 1;  // T5's
  bias_kind kind_;
  std::vector<float> values_;
  attention_options options_;
};

struct bench {
  exec& ex;

  // Rows of equal length attend within themselves; query, key and value are the thirds of one matrix, as in a model.
  void packed(int64_t rows, int64_t length, int64_t heads, int64_t kv_heads, int64_t head_dim, bool causal,
              bias_kind kind = bias_kind::none) {
    const bias added(kind, heads);
    const int64_t tokens = rows * length, width = (heads + 2 * kv_heads) * head_dim;
    std::vector<float> data = noise(tokens * width), out(static_cast<size_t>(tokens * heads * head_dim));
    std::vector<int32_t> offsets = counted(rows + 1, static_cast<int32_t>(length));
    const tensor all(data.data(), dtype::f32, {tokens, width});
    const auto part = [&](int64_t begin, int64_t n) {
      return all.slice(1, begin * head_dim, (begin + n) * head_dim).split_last(n);
    };
    const attention_args args{.out = tensor(out.data(), dtype::f32, {tokens, heads, head_dim}),
                              .query = part(0, heads),
                              .key = part(heads, kv_heads),
                              .value = part(heads + kv_heads, kv_heads),
                              .row_offsets = view(offsets),
                              .causal = causal,
                              .options = added.options(head_dim)};
    const double flops = 4.0 * static_cast<double>(tokens * length * heads * head_dim) / (causal ? 2 : 1);
    measure(cat("attention ", rows, "x", length, ", ", heads, "/", kv_heads, " heads of ", head_dim, added.name()),
            flops, "GFLOP/s", [&] { ops::attention(ex, args); });
  }

  // Rows of `length` decoder tokens attend to `source` encoder tokens each.
  void cross(int64_t rows, int64_t length, int64_t source, int64_t heads, int64_t head_dim) {
    const int64_t tokens = rows * length, keys = rows * source;
    std::vector<float> query = noise(tokens * heads * head_dim), out(query.size());
    std::vector<float> data = noise(keys * 2 * heads * head_dim);
    std::vector<int32_t> offsets = counted(rows + 1, static_cast<int32_t>(length)),
                         key_offsets = counted(rows + 1, static_cast<int32_t>(source));
    const tensor both(data.data(), dtype::f32, {keys, 2 * heads * head_dim});
    const auto half = [&](int64_t begin) {
      return both.slice(1, begin * heads * head_dim, (begin + 1) * heads * head_dim).split_last(heads);
    };
    const attention_args args{.out = tensor(out.data(), dtype::f32, {tokens, heads, head_dim}),
                              .query = tensor(query.data(), dtype::f32, {tokens, heads, head_dim}),
                              .key = half(0),
                              .value = half(1),
                              .row_offsets = view(offsets),
                              .key_row_offsets = view(key_offsets),
                              .options = bias(bias_kind::none, heads).options(head_dim)};
    measure(cat("cross ", rows, "x", length, " to ", source, ", ", heads, " heads of ", head_dim),
            4.0 * static_cast<double>(tokens * source * heads * head_dim), "GFLOP/s",
            [&] { ops::attention(ex, args); });
  }

  // `rows` sequences of `context` tokens, of which the last `step` are the queries; or, to an encoder, of another's.
  void paged(int64_t rows, int64_t step, int64_t context, int64_t heads, int64_t kv_heads, int64_t head_dim, dtype type,
             bias_kind kind = bias_kind::none, bool to_encoder = false) {
    const bias added(kind, heads);
    const kv_layout layout{kv_heads, head_dim, 16, type};
    const int64_t pages_a_row = (context + 15) / 16, tokens = rows * step;
    std::vector<char> keys(cpu::kv_page_bytes(layout) * static_cast<size_t>(rows * pages_a_row)), values(keys.size());
    std::vector<int32_t> table = counted(rows * pages_a_row, 1),
                         offsets = counted(rows + 1, static_cast<int32_t>(step));
    std::vector<int32_t> lengths(static_cast<size_t>(rows), static_cast<int32_t>(context));
    std::vector<float> query = noise(tokens * heads * head_dim), out(query.size());
    const paged_attention_args args{.out = tensor(out.data(), dtype::f32, {tokens, heads, head_dim}),
                                    .query = tensor(query.data(), dtype::f32, {tokens, heads, head_dim}),
                                    .pages = {keys.data(), values.data(), layout},
                                    .page_table = tensor(table.data(), dtype::i32, {rows, pages_a_row}),
                                    .row_offsets = view(offsets),
                                    .context_lengths = view(lengths),
                                    .causal = !to_encoder,
                                    .options = added.options(head_dim)};
    const std::string what = cat(to_encoder ? "paged cross " : "paged ", rows, "x", step, " at ", context, ", ", heads,
                                 "/", kv_heads, " heads of ", head_dim, ", ", name(type), added.name());
    if (step == 1)
      measure(what, 2.0 * static_cast<double>(keys.size()), "GB/s", [&] { ops::paged_attention(ex, args); });
    else
      measure(what, 4.0 * static_cast<double>(tokens * heads * head_dim) * static_cast<double>(context - step / 2),
              "GFLOP/s", [&] { ops::paged_attention(ex, args); });
  }

  void rowwise(int64_t rows, int64_t width, int64_t inner) {
    std::vector<float> x = noise(rows * width), residual = noise(rows * width), out(x.size());
    std::vector<float> wide = noise(rows * inner), gated(wide.size());
    const std::vector<float> weight = noise(width);
    const auto matrix = [&](std::vector<float>& v, int64_t n) { return tensor(v.data(), dtype::f32, {rows, n}); };
    const double bytes = 4.0 * static_cast<double>(rows * width);
    measure(cat("layer norm + residual ", rows, "x", width), 3 * bytes, "GB/s", [&] {
      ops::norm(ex, {.out = matrix(out, width),
                     .x = matrix(x, width),
                     .residual = matrix(residual, width),
                     .weight = weight.data(),
                     .bias = weight.data()});
    });
    measure(cat("rms norm ", rows, "x", width), 2 * bytes, "GB/s", [&] {
      ops::norm(ex,
                {.out = matrix(out, width), .x = matrix(x, width), .weight = weight.data(), .kind = norm_kind::rms});
    });
    const double wide_bytes = 4.0 * static_cast<double>(rows * inner);
    measure(cat("gelu ", rows, "x", inner), 2 * wide_bytes, "GB/s", [&] {
      ops::activation(ex, {.out = matrix(gated, inner), .x = matrix(wide, inner), .kind = activation_kind::gelu});
    });
    const tensor halves = matrix(wide, inner);
    measure(cat("silu x up ", rows, "x", inner / 2), 1.5 * wide_bytes, "GB/s", [&] {
      ops::gated_activation(ex, {.out = halves.slice(1, 0, inner / 2),
                                 .gate = halves.slice(1, 0, inner / 2),
                                 .up = halves.slice(1, inner / 2, inner),
                                 .kind = activation_kind::silu});
    });
  }
};

}  // namespace

int main(int argc, char** argv) try {
  ft::thread_pool pool(argc > 1 ? std::atoi(argv[1]) : 0);
  for (ft::cpu::isa_level level : ft::cpu::available_levels()) {
    if (argc > 2 ? ft::cpu::name(level) != argv[2] : level == ft::cpu::isa_level::reference) continue;
    std::printf("%s, %d threads\n", std::string(ft::cpu::name(level)).c_str(), pool.size());
    ft::arena scratch(ft::host_memory());
    ft::exec ex{ft::cpu_backend(), ft::cpu::kernels_of(level).ops, scratch, &pool};
    bench b{ex};
    b.packed(32, 128, 12, 12, 32, false);
    b.packed(1, 512, 12, 12, 64, false);
    b.paged(1, 128, 128, 9, 3, 64, ft::dtype::bf16);
    b.paged(1, 1, 128, 9, 3, 64, ft::dtype::bf16);
    b.paged(1, 1, 2048, 9, 3, 64, ft::dtype::bf16);
    b.paged(1, 1, 2048, 9, 3, 64, ft::dtype::f32);
    b.paged(1, 1, 8192, 32, 8, 128, ft::dtype::bf16);
    b.paged(1, 1, 8192, 8, 1, 128, ft::dtype::bf16);
    for (const bias_kind kind : {bias_kind::none, bias_kind::alibi}) {
      b.packed(1, 512, 16, 16, 64, true, kind);
      b.paged(1, 128, 512, 16, 16, 64, ft::dtype::f32, kind);
      b.paged(1, 1, 2048, 16, 16, 64, ft::dtype::f32, kind);
    }
    for (const bias_kind kind : {bias_kind::none, bias_kind::relative}) {
      b.packed(1, 512, 12, 12, 64, false, kind);
      b.paged(1, 1, 512, 12, 12, 64, ft::dtype::f32, kind);
    }
    b.cross(1, 64, 512, 12, 64);
    b.cross(32, 32, 128, 12, 64);
    b.paged(1, 1, 512, 12, 12, 64, ft::dtype::f32, bias_kind::none, true);
    b.paged(4, 1, 512, 12, 12, 64, ft::dtype::f32, bias_kind::none, true);
    b.rowwise(4096, 384, 1536);
    b.rowwise(1, 576, 3072);
  }
} catch (const std::exception& e) {
  std::fprintf(stderr, "ops_bench: %s\n", e.what());
  return 1;
}
