// What becomes of weights on a device without kernels for packed integers, as a GPU has none yet: the dtype that is
// chosen and said, what is expanded into what, and that the memory that is asked for is the memory that is taken.
#include "arch/weights/placement.h"

#include <atomic>
#include <cstring>

#include "archs/model_fixture.h"
#include "archs/tiny_configs.h"
#include "check.h"

namespace ft::test {
namespace {

class counting_memory final : public memory {
 public:
  std::atomic<uint64_t> held{0};

  void* allocate(size_t bytes) override {
    held += bytes;
    return host_memory().allocate(bytes);
  }
  void deallocate(void* data, size_t bytes) noexcept override {
    held -= bytes;
    host_memory().deallocate(data, bytes);
  }
};

// Keeps weights as dense rows and biases twice, as a GPU does; computes nothing.
class dense_device final : public backend {
 public:
  size_t free_bytes = size_t{1} << 30;
  counting_memory memory_;

  std::string name() const override { return "dense:0"; }
  memory& device_memory() override { return memory_; }
  const op_table& ops() const override { return cpu_backend().ops(); }
  size_t free_memory() const override { return free_bytes; }
  void upload(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void download_later(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void copy(void* to, const void* from, size_t bytes, void*) override { std::memcpy(to, from, bytes); }
  void clear(void* to, size_t bytes, void*) override { std::memset(to, 0, bytes); }
  int64_t tokens_per_pass() const override { return 8; }
  dtype activation_type(dtype compute) const override { return compute; }
  size_t kv_page_bytes(const kv_layout&) const override { return 0; }

  bool computes_on(const weight_format& format) const override { return format.is_float(); }
  std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from,
                                      thread_pool*) override {
    CHECK(computes_on(made));
    int64_t rows = 0;
    for (const stored_weight& part : parts) rows += part.rows();
    return std::make_unique<rows_weight>(made, rows, parts[0].columns(), from);
  }
  std::unique_ptr<packed_bias> pack_bias(std::span<const float> values, dtype compute, memory& from) override {
    return std::make_unique<bias>(static_cast<int64_t>(values.size()), compute, from);
  }
  size_t bias_bytes(int64_t size, dtype compute) const override {
    return bytes_of(dtype::f32, size) + (compute == dtype::f32 ? 0 : bytes_of(compute, size));
  }

 private:
  struct rows_weight final : packed_weight {
    rows_weight(const weight_format& made, int64_t rows, int64_t columns, memory& from)
        : packed_weight(made, rows, columns), held(from, bytes_of(made, rows, columns)) {
      bytes = held.bytes();
    }
    buffer held;
  };
  struct bias final : packed_bias {
    bias(int64_t n, dtype compute, memory& from)
        : packed_bias(n),
          values(from, bytes_of(dtype::f32, n)),
          rounded(from, compute == dtype::f32 ? 0 : bytes_of(compute, n)) {
      bytes = values.bytes() + rounded.bytes();
    }
    buffer values, rounded;
  };
};

// Matrices in blocks where their rows are whole ones, the rest in `rest`, norms in float32.
checkpoint_builder quantised_llama(dtype rest) {
  const std::string config = decoder("llama", R"(, "attention_bias": true)");
  checkpoint_builder model(config);
  const auto bare = model.open();
  const arch::family& family = arch::family_of(*bare);
  const arch::weight_table table = family.weights(family.config(*bare), bare->format());
  for (const arch::missing_tensor& t : arch::missing(arch::match(table, *bare))) {
    const bool matrix = t.shape.size() == 2;
    model.add(t.name, t.shape, matrix && t.shape[1] % 32 == 0 ? dtype::q8_0 : matrix ? rest : dtype::f32);
  }
  return model;
}

struct described {
  explicit described(const checkpoint_builder& model)
      : source(model.open()),
        config(arch::family_of(*source).config(*source)),
        table(arch::family_of(*source).weights(config, source->format())),
        match(arch::match(table, *source)) {
    arch::require_complete(match, *source);
  }
  std::shared_ptr<const io::checkpoint> source;
  arch::model_config config;
  arch::weight_table table;
  arch::weight_match match;
};

void expect_measured_is_placed(const described& d, dtype compute, bool keep) {
  dense_device device;
  thread_pool pool(3);
  const arch::build_options options{.device = device, .compute = compute, .keep_quantised = keep, .pool = &pool};
  const arch::placed_bytes measured = arch::measure(d.config, d.match, options);
  CHECK_EQ(device.memory_.held, 0u);  // nothing was placed
  const auto network = arch::family_of(*d.source).build(d.config, d.match, options);
  CHECK_EQ(measured.total, device.memory_.held);
  CHECK_EQ(measured.total, network->weight_bytes());
  uint64_t sum = 0;
  for (const auto& [format, bytes] : measured.by_format) sum += bytes;
  CHECK_EQ(sum, measured.total);
}

}  // namespace

TEST(the_memory_that_is_measured_is_the_memory_that_is_taken) {
  std::vector<std::string> configs = decoders;
  configs.insert(configs.end(), encoder_decoders.begin(), encoder_decoders.end());
  configs.push_back(encoder("bert", "BertForMaskedLM", R"(, "tie_word_embeddings": false)"));
  configs.push_back(encoder("roberta", "RobertaForSequenceClassification"));
  for (const std::string& config : configs) {
    checkpoint_builder model(config);
    model.add_all();
    const described d(model);
    for (dtype compute : {dtype::f32, dtype::f16}) expect_measured_is_placed(d, compute, true);
  }
  for (bool keep : {true, false}) expect_measured_is_placed(described(quantised_llama(dtype::f16)), dtype::f16, keep);
}

TEST(what_a_device_cannot_compute_on_is_expanded_into_half_precision) {
  const dense_device device;
  for (dtype rest : {dtype::f16, dtype::bf16, dtype::f32}) {
    const described d(quantised_llama(rest));
    CHECK_EQ(d.config.checkpoint_dtype, "q8_0");
    const dtype expected = rest == dtype::bf16 ? dtype::bf16 : dtype::f16;
    const arch::compute_choice choice = arch::choose_compute("auto", d.config, *d.source, device);
    CHECK(choice.compute == expected && choice.key_values == expected);
    CHECK_EQ(choice.name, name(expected));

    dense_device other;
    const arch::build_options options{.device = other, .compute = choice.compute};
    const arch::placed_bytes placed = arch::measure(d.config, d.match, options);
    CHECK(!placed.by_format.contains("q8_0"));
    uint64_t matrices = 0, expanded = 0;
    for (const arch::weight_spec& spec : d.table)
      if (spec.shape.size() == 2) matrices += static_cast<uint64_t>(spec.shape[0] * spec.shape[1]);
    for (const auto& [format, bytes] : placed.by_format)
      if (format != "float32") expanded += bytes;
    CHECK_EQ(expanded, 2 * matrices);
  }
}

TEST(what_is_said_of_the_dtype_is_what_is_computed) {
  const dense_device device;
  checkpoint_builder floats(decoder("llama", ""));
  floats.add_all();
  const described quantised(quantised_llama(dtype::f16)), plain(floats);
  const auto choice = [&](const char* wanted, const described& d, const backend& on) {
    return arch::choose_compute(wanted, d.config, *d.source, on);
  };
  const arch::compute_choice blocks = choice("auto", quantised, cpu_backend());
  CHECK(blocks.name == "q8_0" && blocks.compute == dtype::f32 && blocks.key_values == dtype::f16);
  CHECK(blocks.keep_quantised);
  const arch::compute_choice same = choice("auto", plain, device);
  CHECK(same.name == "float32" && same.compute == dtype::f32 && same.key_values == dtype::f32);
  const arch::compute_choice wished = choice("bfloat16", quantised, cpu_backend());
  CHECK(wished.name == "bfloat16" && wished.key_values == dtype::bf16 && !wished.keep_quantised);
  const arch::compute_choice int8 = choice("int8", quantised, cpu_backend());
  CHECK(int8.name == "int8" && int8.compute == dtype::i8 && int8.key_values == dtype::f32);
  for (const char* wrong : {"float64", "q8_0", "int32", "half", ""})
    CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "is unknown; use auto", choice(wrong, plain, device));
}

TEST(weights_that_do_not_fit_are_told_by_format) {
  const described d(quantised_llama(dtype::f16));
  dense_device device;
  const arch::build_options options{.device = device, .compute = dtype::f16};
  device.free_bytes = arch::measure(d.config, d.match, options).total;
  arch::require_room(d.config, d.match, options);
  --device.free_bytes;
  for (const char* part :
       {"the weights take 1 MiB on dense:0 (", "1 MiB in float16, 1 MiB in float32", "which has 0 MiB free"})
    CHECK_ERROR(FT_ERROR_OUT_OF_MEMORY, part, arch::require_room(d.config, d.match, options));
  CHECK_EQ(device.memory_.held, 0u);
}

}  // namespace ft::test
