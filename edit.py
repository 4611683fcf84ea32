def edit(p, *pairs):
    s=open(p).read()
    for a,b in pairs:
        assert a in s, (p,a)
        s=s.replace(a,b)
    open(p,'w').write(s)
edit('libft/backends/cuda/tensor_core.h',('// The instructions of prompt attention, for','// The instructions of matrix products on tensor cores, for'))
edit('libft/backends/cuda/gemm/linear.cu',('rows <= few_rows ||','rows <= most_few_rows(a, weight) ||'))
edit('libft/backends/cuda/gemm/few_rows.cu',
('// A block computes a few features of all rows:','// The plain kernel: one row, and what tensor cores do not take. A block computes a few features of all rows:'),
('constexpr int threads = 128, warps = threads / 32;','constexpr int threads = 128, warps = threads / 32;\nconstexpr int64_t rows_at_once = 8;'),
('1 <= rows <= few_rows:','1 <= rows <= rows_at_once:'),
('if constexpr (N < few_rows)','if constexpr (N < rows_at_once)'),
('std::min(left, few_rows)','std::min(left, rows_at_once)'),
('void multiply_few_rows(exec& ex, const linear_args& args, const cuda_weight& weight) {\n','''void multiply_few_rows(exec& ex, const linear_args& args, const cuda_weight& weight) {
  const int64_t rows = args.x.dim(0);
  if (rows > 1 && on_tensor_cores(args, weight) && rows <= most_few_rows(args, weight))
    return multiply_few_rows_on_tensor_cores(ex, args, weight);
'''))
edit('libft/backends/cuda/gemm/few_rows.h',
('// The same on tensor cores, for 1 to 32 rows that most_few_rows allows.','// The same on tensor cores, for up to most_few_rows rows, where they take such rows and weights.\nbool on_tensor_cores(const linear_args& args, const cuda_weight& weight);'))
s=open('libft/backends/cuda/gemm/few_rows_tensor.cu').read()
i=s.index('int64_t most_few_rows'); j=s.index('void multiply_few_rows_on')
s=s[:i]+'''bool on_tensor_cores(const linear_args& args, const cuda_weight& weight) {
  if (args.x.type == dtype::f32 || !in_vectors({&args.x, &weight.values})) return false;
  int device = 0, major = 0;
  check(cudaGetDevice(&device), "linear");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "linear");
  return major >= 8;
}

int64_t most_few_rows(const linear_args& args, const cuda_weight& weight) {
  return on_tensor_cores(args, weight) ? 32 : 8;
}

'''+s[j:]
s=s.replace('constexpr int64_t most_rows = 32;\n','')
open('libft/backends/cuda/gemm/few_rows_tensor.cu','w').write(s)
edit('libft/backends/cuda/gemm/few_rows.cu',('  if (rows > 1 && on_tensor_cores(args, weight) && rows <= most_few_rows(args, weight))','  if (rows > 1 && rows <= most_few_rows(args, weight) && on_tensor_cores(args, weight))'))
edit('tests/gpu/place.h',('''  exec& ex;

 private:
  bool reference_;''','''  // A weight of these rows (host memory, f32): exactly them for the reference, in `type` on the GPU.
  const packed_weight* pack(const tensor& rows, dtype type) {
    return weights_
        .emplace_back(reference_ ? cpu::kernels_of(cpu::isa_level::reference).pack(std::span(&rows, 1), dtype::f32)
                                 : ex.device.pack(std::span(&rows, 1), type))
        .get();
  }

  exec& ex;

 private:
  bool reference_;'''),('''  std::deque<buffer> buffers_;
};''','''  std::deque<buffer> buffers_;
  std::deque<std::unique_ptr<packed_weight>> weights_;
};'''))
open('tests/gpu/linear_test.cc','w').write('''// linear and the embedding of packed weights: the GPU against the reference, and rows against the same rows among others.
#include "gpu/place.h"

namespace ft::test {
namespace {

// Sums of up to 5000 products with weights that keep them about 1. Beyond a few rows bias, activation and residual are
// added to a sum that was rounded.
constexpr bounds linear_bounds{{2e-5, 1e-5}, {4e-3, 0x1p-10}, {3e-2, 0x1p-7}};

constexpr auto all_activations = {activation_kind::none,      activation_kind::none, activation_kind::relu,
                                  activation_kind::gelu,      activation_kind::gelu_tanh, activation_kind::silu,
                                  activation_kind::tanh};

struct drawn_linear {
  drawn_linear(draw& d, dtype type, int64_t rows, int64_t in_features, int64_t out_features)
      : type(type),
        x(rounded(guarded({rows, in_features}, d.one_of<int64_t>({0, 0, 8, 1})).fill(d), type)),
        weight(rounded(guarded({out_features, in_features}).fill(d, 1 / std::sqrt(static_cast<float>(in_features))),
                       type)),
        out_type(d.coin() ? type : dtype::f32),
        gap(d.one_of<int64_t>({0, 0, 8, 1})),
        kind(d.one_of(all_activations)),
        add_to_out(d.coin()) {
    if (d.coin()) bias = d.normals(out_features);
    if (d.coin()) residual = rounded(guarded({rows, out_features}, gap).fill(d), out_type);
  }

  std::vector<float> run(place& on) const {
    placed& in = on.put(x, type);
    placed& added = on.put(residual ? *residual : guarded({1, 1}), out_type);
    placed& out =
        residual && add_to_out ? added : on.put(guarded({x.view().dim(0), weight.view().dim(0)}, gap), out_type);
    linear_args a{.out = out.view(), .x = in.view(), .weight = on.pack(weight.view(), type), .activation = kind};
    if (!bias.empty()) a.bias = on.put(bias);
    if (residual) a.residual = added.view();
    ops::linear(on.ex, a);
    in.values();
    return out.values();
  }

  dtype type;
  guarded x, weight;
  dtype out_type;
  int64_t gap;
  activation_kind kind;
  bool add_to_out;  // the residual is the output
  std::vector<float> bias;
  std::optional<guarded> residual;
};

int64_t some_rows(draw& d) { return d.one_of<int64_t>({1, 2, 3, 8, 9, 16, 17, 24, 25, 32, 33, 64, d.integer(1, 40)}); }
int64_t some_features(draw& d) {
  return d.one_of<int64_t>({1, 2, 7, 8, 16, 40, 64, 72, 100, 128, 576, 1000, 1544, d.integer(1, 300)});
}

}  // namespace

TEST(linear) {
  compare_with_reference("linear", 150, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_rows(d), in_features = some_features(d), out_features = some_features(d);
    const drawn_linear drawn(d, type, rows, in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
}

// So many features that blocks have fewer warps, and input features that every warp meets several times.
TEST(linear_of_large_weights) {
  compare_with_reference("linear", 6, linear_bounds, [](draw& d, dtype type) -> placed_problem {
    const bool tall = d.coin();
    const int64_t rows = some_rows(d), in_features = tall ? 264 : 5000, out_features = tall ? 9000 : 300;
    const drawn_linear drawn(d, type, rows, in_features, out_features);
    return [=](place& on) { return drawn.run(on); };
  });
}

TEST(few_rows_do_not_depend_on_their_neighbours) {
  draw d(run_seed());
  for (dtype type : {dtype::f16, dtype::bf16}) {
    const int64_t in_features = 1000, out_features = 300;
    const drawn_linear all(d, type, 32, in_features, out_features);
    place on(gpu(), false);
    const packed_weight* weight = on.pack(all.weight.view(), type);
    const tensor x = on.put(all.x, type).view();
    const auto run = [&](int64_t begin, int64_t end) {
      placed& out = on.put(guarded({end - begin, out_features}), type);
      ops::linear(on.ex, {.out = out.view(), .x = x.slice(0, begin, end), .weight = weight});
      return out.values();
    };
    const std::vector<float> together = run(0, 32);
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 2}, {5, 13}, {9, 25}, {8, 32}})
      expect_same_bits(run(begin, end),
                       {together.begin() + begin * out_features, together.begin() + end * out_features},
                       cat("rows ", begin, " to ", end));
  }
}

TEST(embedding_of_packed_weights) {
  const bounds b{{1e-7, 4e-7}, {6e-8, 0x1p-11 * 1.01}, {1e-7, 0x1p-8 * 1.01}};
  compare_with_reference("embedding", 20, b, [](draw& d, dtype type) -> placed_problem {
    const int64_t rows = some_features(d), width = some_features(d), n = some_rows(d);
    const guarded table = rounded(guarded({rows, width}).fill(d), type);
    std::vector<int32_t> ids(static_cast<size_t>(n));
    for (int32_t& i : ids) i = static_cast<int32_t>(d.integer(0, rows - 1));
    return [=](place& on) {
      placed& out = on.put(guarded({n, width}, 8), type);
      ops::embedding(on.ex, {.out = out.view(), .ids = on.put(ids), .packed = on.pack(table.view(), type)});
      return out.values();
    };
  });
}

}  // namespace ft::test
''')
edit('tests/gpu/bench.cc',('''}  // namespace

void run_benchmarks''','''benchmark linear_case(const char* model, int64_t rows, int64_t in_features, int64_t out_features) {
  const double elements = static_cast<double>(in_features * out_features + rows * (in_features + out_features));
  return {cat("linear ", model, " ", rows, " x ", in_features, " x ", out_features), elements * 2,
          2.0 * static_cast<double>(rows * in_features) * static_cast<double>(out_features),
          static_cast<size_t>(in_features * out_features * 2), [=](tensors& m) -> std::function<void()> {
            const packed_weight* weight = m.weight(out_features, in_features);
            const tensor x = m.make(dtype::f16, {rows, in_features}), out = m.make(dtype::f16, {rows, out_features});
            return [=] { ops::linear(gpu(), {.out = out, .x = x, .weight = weight}); };
          }};
}

// The products of a decoder's layer: query, key and value; output; up (and gate); down.
void add_linear_cases(std::vector<benchmark>& cases) {
  for (int64_t rows : {1, 4, 8, 32}) {
    cases.push_back(linear_case("gpt-j", rows, 4096, 12288));
    cases.push_back(linear_case("gpt-j", rows, 4096, 4096));
    cases.push_back(linear_case("gpt-j", rows, 4096, 16384));
    cases.push_back(linear_case("gpt-j", rows, 16384, 4096));
    cases.push_back(linear_case("gpt-j", rows, 4096, 50400));
    cases.push_back(linear_case("llama-8b", rows, 4096, 6144));
    cases.push_back(linear_case("llama-8b", rows, 4096, 28672));
    cases.push_back(linear_case("llama-8b", rows, 14336, 4096));
  }
}

}  // namespace

void run_benchmarks'''),('  const benchmark cases[] = {','  std::vector<benchmark> cases = {'),('''  for (const benchmark& b : cases)
    if''','''  add_linear_cases(cases);
  for (const benchmark& b : cases)
    if'''),('''  void clear() { buffers_.clear(); }
''','''  const packed_weight* weight(int64_t rows, int64_t columns) {
    auto made = std::make_unique<cuda::cuda_weight>(gpu().device.device_memory(), dtype::f16, rows, columns);
    repeat_normals(dtype::f16, made->values.data, made->bytes);
    return weights_.emplace_back(std::move(made)).get();
  }

  void clear() {
    buffers_.clear();
    weights_.clear();
  }
'''),('''    const buffer& values = normals(type);
    for (size_t at = 0; at < bytes; at += values.bytes())
      check(cudaMemcpyAsync(b.as<char>() + at, values.data(), std::min(values.bytes(), bytes - at),
                            cudaMemcpyDeviceToDevice, stream()),
            "fill");
    return b.data();
  }
''','''    repeat_normals(type, b.data(), bytes);
    return b.data();
  }
'''),(''' private:
  const buffer& normals(dtype type) {''',''' private:
  void repeat_normals(dtype type, void* to, size_t bytes) {
    const buffer& values = normals(type);
    for (size_t at = 0; at < bytes; at += values.bytes())
      check(cudaMemcpyAsync(static_cast<char*>(to) + at, values.data(), std::min(values.bytes(), bytes - at),
                            cudaMemcpyDeviceToDevice, stream()),
            "fill");
  }

  const buffer& normals(dtype type) {'''),('''  std::deque<buffer> buffers_;
  buffer blocks_[3];''','''  std::deque<buffer> buffers_;
  std::deque<std::unique_ptr<packed_weight>> weights_;
  buffer blocks_[3];'''),('#include "backends/cuda/launch.h"\n','#include "backends/cuda/launch.h"\n#include "backends/cuda/weight.h"\n'))
