// Weights in every layout that a source may have: made up by the layout's definition, read back through the view, its
// slices and the loader, and the message about what does not fit.
#include <algorithm>
#include <cstring>

#include "arch/weights/weight_loader.h"
#include "archs/model_fixture.h"
#include "check.h"
#include "core/half.h"
#include "ops/gguf_blocks.h"

using namespace ft;
using arch::shard_axis;
using arch::weight_layout;
using arch::weight_source;
using arch::weight_spec;

namespace {

// Stored tensors filled by hand.
class store {
 public:
  // The elements of a new tensor, all 99.
  std::vector<float>& add(const std::string& name, const std::vector<int64_t>& shape, dtype type = dtype::f32) {
    int64_t size = 1;
    for (int64_t n : shape) size *= n;
    made_.push_back({name, shape, type, std::vector<float>(static_cast<size_t>(size), 99)});
    return made_.back().values;
  }

  void remove(const std::string& name) {
    std::erase_if(made_, [&](const auto& m) { return m.name == name; });
  }

  std::shared_ptr<const io::checkpoint> open() {
    std::vector<io::stored_tensor> tensors;
    for (const made& m : made_) {
      auto bytes = std::make_shared<std::vector<char>>(bytes_of(m.type, static_cast<int64_t>(m.values.size())) + 1);
      char* data = bytes->data() + 1;  // files align nothing
      for (size_t i = 0; i < m.values.size(); ++i) put(data, i, m.values[i], m.type);
      const std::vector<uint64_t> shape(m.shape.begin(), m.shape.end());
      tensors.push_back(
          io::view_stored(m.name, m.type, shape, io::mapped_file::wrap(bytes->data(), bytes->size(), "memory"), 1));
      held_.push_back(std::move(bytes));
    }
    return io::checkpoint::from_parts("made", io::parse_json("{}", "made/config.json"), std::move(tensors));
  }

 private:
  struct made {
    std::string name;
    std::vector<int64_t> shape;
    dtype type;
    std::vector<float> values;
  };

  static void put(char* to, size_t i, float value, dtype type) {
    const uint16_t half = type == dtype::f16 ? f32_to_f16(value) : f32_to_bf16(value);
    if (bytes_of(type, 1) == 4)
      std::memcpy(to + 4 * i, &value, 4);
    else
      std::memcpy(to + 2 * i, &half, 2);
  }

  std::vector<made> made_;
  std::vector<std::shared_ptr<std::vector<char>>> held_;
};

// A weight [out, in] (in 0: a vector) of numbers that every dtype holds exactly.
struct logical {
  int64_t out, in;
  float at(int64_t o, int64_t i) const { return static_cast<float>((o * 37 + i * 11 + (o ^ i) * 5) % 127 - 63); }
};

struct layout_case {
  shard_axis shard;
  int64_t pieces;
  weight_layout layout;
  dtype type;
};

std::vector<std::string> piece_names(const std::string& name, int64_t count) {
  std::vector<std::string> names;
  for (int64_t p = 0; p < count; ++p) names.push_back(count == 1 ? name : cat(name, ".", p));
  return names;
}

// Stores the weight as the case says, straight from the definition, and returns the row that describes it.
weight_spec put(store& to, const std::string& name, const logical& w, const layout_case& c) {
  const weight_layout& l = c.layout;
  const int64_t in = std::max<int64_t>(w.in, 1);
  const bool by_inputs = c.shard == shard_axis::row && w.in > 0;
  const int64_t rows = by_inputs ? w.out : w.out / c.pieces, columns = by_inputs ? in / c.pieces : in;
  const int64_t height = rows / l.groups, stored_rows = rows * l.parts;
  weight_spec spec{.name = name, .shape = {w.out}, .shard = c.shard, .may_quantise = w.in > 0};
  if (w.in) spec.shape.push_back(w.in);
  spec.sources = {weight_source::joined(piece_names("stored." + name, c.pieces), l)};
  std::vector<int64_t> shape = {stored_rows};
  if (w.in) shape = l.transposed ? std::vector{columns, stored_rows} : std::vector{stored_rows, columns};
  if (l.flat) shape = {stored_rows * columns};
  for (int64_t p = 0; p < c.pieces; ++p) {
    std::vector<float>& values = to.add(spec.sources[0].pieces[static_cast<size_t>(p)], shape, c.type);
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < columns; ++k) {
        const int64_t stored_row = (r / height * l.parts + l.part) * height + r % height;
        const int64_t at = l.transposed && w.in ? k * stored_rows + stored_row : stored_row * columns + k;
        values[static_cast<size_t>(at)] = by_inputs ? w.at(r, p * columns + k) : w.at(p * rows + r, k);
      }
  }
  return spec;
}

std::vector<layout_case> all_cases() {
  std::vector<layout_case> cases;
  for (dtype type : {dtype::f32, dtype::f16, dtype::bf16})
    for (shard_axis shard : {shard_axis::column, shard_axis::row})
      for (int64_t pieces : {1, 2, 4})
        for (bool transposed : {false, true})
          for (bool flat : {false, true})
            for (auto [groups, parts] : {std::pair<int64_t, int64_t>{1, 1}, {1, 3}, {3, 3}, {6, 2}, {2, 1}})
              for (int64_t part : {int64_t{0}, parts - 1})
                cases.push_back({shard, pieces, {transposed, flat, groups, parts, part}, type});
  return cases;
}

std::vector<float> gathered(const arch::weight_view& view) {
  std::vector<char> raw(view.bytes());
  const stored_weight whole = arch::gather(view, raw.data());
  std::vector<float> values(static_cast<size_t>(view.rows * view.columns));
  for (int64_t row = 0; row < view.rows; ++row) whole.expand(row, values.data() + row * view.columns);
  return values;
}

void check_view(const arch::weight_view& view, const logical& w, int64_t first_row, int64_t first_column) {
  const std::vector<float> values = gathered(view);
  for (int64_t r = 0; r < view.rows; ++r)
    for (int64_t k = 0; k < view.columns; ++k)
      CHECK_EQ(values[static_cast<size_t>(r * view.columns + k)], w.at(first_row + r, first_column + k));
}

// What a layer computes from the rows of the identity: [in, out], its weight's columns plus its bias.
std::vector<float> columns_plus_bias(const nn::linear& layer, int64_t in) {
  runtime::executor executor(cpu_backend(), 1);
  std::vector<float> identity(static_cast<size_t>(in * in)), result;
  for (int64_t i = 0; i < in; ++i) identity[static_cast<size_t>(i * in + i)] = 1;
  executor.compute([&](nn::run& run) {
    result = test::loaded_model::copy(layer.forward(run, tensor(identity.data(), dtype::f32, {in, in})));
  });
  return result;
}

constexpr logical matrix{24, 20}, vector{24, 0};

}  // namespace

TEST(a_view_finds_every_element_in_every_layout) {
  for (const layout_case& c : all_cases()) {
    store files;
    const arch::weight_table table = {put(files, "matrix", matrix, c), put(files, "vector", vector, c)};
    const auto source = files.open();
    const arch::weight_match match = arch::match(table, *source);
    arch::require_complete(match, *source);
    CHECK(match.unused.empty() && arch::missing(match).empty());
    const arch::weight_view view = arch::view_of(match.entries[0]);
    check_view(view, matrix, 0, 0);
    check_view(arch::view_of(match.entries[1]), vector, 0, 0);
    // A rank's share of any cut, across the borders of pieces and groups.
    for (int64_t ranks : {2, 4})
      for (int64_t r = 0; r < ranks; ++r) {
        const int64_t rows = 24 / ranks, columns = 20 / ranks;
        check_view(view.slice(0, r * rows, (r + 1) * rows), matrix, r * rows, 0);
        check_view(view.slice(1, r * columns, (r + 1) * columns), matrix, 0, r * columns);
      }
    check_view(view.slice(0, 5, 19).slice(1, 3, 18), matrix, 5, 3);
  }
}

TEST(the_loader_places_every_layout_alike) {
  for (const layout_case& c : all_cases()) {
    store files;
    layout_case of_bias = c;  // each bias is stored as its matrix is; a row-split one is not split
    if (c.shard == shard_axis::row) of_bias.shard = shard_axis::none, of_bias.pieces = 1;
    const arch::weight_table table = {put(files, "layer.weight", matrix, c), put(files, "layer.bias", vector, of_bias),
                                      put(files, "table.weight", matrix, c)};
    const auto source = files.open();
    const arch::weight_match match = arch::match(table, *source);
    uint64_t done = 0, total = 0;
    arch::build_options options{.device = cpu_backend(), .on_progress = [&](uint64_t d, uint64_t t) {
                                  done = d;
                                  total = t;
                                }};
    arch::weight_loader load(match, options);
    const std::vector<float> columns = columns_plus_bias(load.linear({"layer"}), matrix.in);
    for (int64_t o = 0; o < matrix.out; ++o)
      for (int64_t i = 0; i < matrix.in; ++i)
        CHECK_EQ(columns[static_cast<size_t>(i * matrix.out + o)], matrix.at(o, i) + vector.at(o, 0));
    const nn::embedding embedding = load.embedding("table");
    CHECK(embedding.table.view.type == c.type && embedding.table.view.dim(1) == matrix.in);
    std::vector<float> rows(static_cast<size_t>(matrix.out * matrix.in));
    dequantise_row(c.type, embedding.table.view.data, matrix.out * matrix.in, rows.data());
    for (int64_t o = 0; o < matrix.out; ++o)
      for (int64_t i = 0; i < matrix.in; ++i) CHECK_EQ(rows[static_cast<size_t>(o * matrix.in + i)], matrix.at(o, i));
    CHECK(done == total && done == bytes_of(c.type, 2 * 24 * 20 + 24));
  }
}

TEST(fused_parts_stand_side_by_side_in_one_layer) {
  store files;
  arch::weight_table table;
  std::vector<float>& fused = files.add("attention.weight", {72, 20});
  for (size_t i = 0; i < fused.size(); ++i) fused[i] = static_cast<float>(i);
  for (int64_t part = 0; part < 3; ++part) {
    table.push_back({.name = cat("part", part, ".weight"), .shape = {24, 20}, .may_quantise = true});
    table.back().sources = {{std::string("attention.weight"), {.groups = 4, .parts = 3, .part = part}}};
  }
  const auto source = files.open();
  const arch::weight_match match = arch::match(table, *source);
  CHECK(match.unused.empty());
  const arch::build_options options{.device = cpu_backend()};
  arch::weight_loader load(match, options);
  const std::vector<float> columns = columns_plus_bias(load.linear({"part0", "part1", "part2"}), 20);
  for (int64_t part = 0; part < 3; ++part)
    for (int64_t group = 0; group < 4; ++group)
      for (int64_t r = 0; r < 6; ++r)
        for (int64_t i = 0; i < 20; ++i)
          CHECK_EQ(columns[static_cast<size_t>(i * 72 + part * 24 + group * 6 + r)],
                   static_cast<float>(((group * 3 + part) * 6 + r) * 20 + i));
}

TEST(what_does_not_fit_is_told_in_terms_of_the_stored_tensors) {
  store files;
  const layout_case fused{shard_axis::column, 2, {.transposed = true, .parts = 3}, dtype::f32};
  const layout_case flat{shard_axis::row, 4, {.transposed = true, .flat = true}, dtype::f16};
  arch::weight_table table = {put(files, "fused", matrix, fused), put(files, "flat", matrix, flat)};
  for (int64_t part = 1; part < 3; ++part) {  // the other parts of the same tensors
    table.push_back(table[0]);
    table.back().name = cat("fused", part);
    table.back().sources[0].layout.part = part;
  }
  table.push_back({.name = "uneven", .shape = {25}, .shard = shard_axis::column});
  table.back().sources = {weight_source::joined(piece_names("stored.uneven", 2))};
  files.add("stored.uneven.0", {13});
  files.add("stored.uneven.1", {12});
  table.push_back({.name = "absent", .shape = {25, 3}});
  table.back().sources = {{std::string("stored.absent"), {.transposed = true}}};
  files.remove("stored.fused.1");
  files.remove("stored.flat.0");
  files.remove("stored.flat.2");
  files.remove("stored.flat.3");
  files.add("stored.flat.0", {119}, dtype::f16);
  files.add("stored.flat.2", {120}, dtype::f32);
  files.add("stored.flat.3", {120}, dtype::i32);
  files.add("stored.flat.4", {120}, dtype::f16);
  const auto source = files.open();
  const arch::weight_match match = arch::match(table, *source);
  for (const char* part :
       {"6 tensors do not fit", "stored.fused.1 [20, 36] is missing",
        "stored.flat.0 has 238 bytes, expected 240 (memory)", "stored.flat.2 is float32, but stored.flat.0 is float16",
        "stored.flat.3 is int32, expected float32",
        "stored.uneven.0 + stored.uneven.1: uneven [25] cannot be cut into 2 pieces of 1 groups",
        "stored.absent [3, 25] is missing"})
    CHECK_ERROR(FT_ERROR_CHECKPOINT, part, arch::require_complete(match, *source));
  CHECK_EQ(match.unused.size(), 1u);
  CHECK_EQ(match.unused[0]->name, "stored.flat.4");
  const std::vector<arch::missing_tensor> missing = arch::missing(match);
  CHECK_EQ(missing.size(), 2u);
  CHECK_EQ(missing[0].name, "stored.fused.1");
  CHECK(missing[0].shape == std::vector<int64_t>({20, 36}));
  CHECK_EQ(missing[1].name, "stored.absent");
}

TEST(a_whole_source_comes_before_a_part_of_another) {
  store files;
  weight_spec spec{.name = "w", .shape = {4, 2}, .shard = shard_axis::column};
  spec.sources = {weight_source::joined({"a.0", "a.1"}), weight_source::joined({"b.0", "b.1"}), "c"};
  const arch::weight_table table = {spec};
  files.add("b.1", {2, 2});
  CHECK_ERROR(FT_ERROR_CHECKPOINT, "b.0 [2, 2] is missing", const auto s = files.open();
              arch::require_complete(arch::match(table, *s), *s));
  files.add("c", {4, 2});
  const auto source = files.open();
  const arch::weight_match match = arch::match(table, *source);
  arch::require_complete(match, *source);
  CHECK_EQ(match.entries[0].source->pieces[0], "c");
}

TEST(quantised_rows_may_be_fused_but_not_transposed_or_split) {
  for (bool transposed : {false, true}) {
    store files;
    const layout_case c{shard_axis::column, 1, {.transposed = transposed, .parts = 2}, dtype::f32};
    weight_spec spec{.name = "w.weight", .shape = {64, 64}, .may_quantise = true};
    spec.sources = {{std::string("w"), c.layout}};
    const std::vector<uint8_t> blocks(bytes_of(dtype::q8_0, int64_t{128} * 64), 1);
    const std::vector<uint64_t> shape = {transposed ? 64u : 128u, transposed ? 128u : 64u};
    const auto file = io::mapped_file::wrap(blocks.data(), blocks.size(), "memory");
    const auto source = io::checkpoint::from_parts("made", io::parse_json("{}", "made/config.json"),
                                                   {io::view_stored("w", dtype::q8_0, shape, file, 0)});
    const arch::weight_table table = {spec};
    const arch::weight_match match = arch::match(table, *source);
    if (transposed) {
      CHECK_ERROR(FT_ERROR_CHECKPOINT, "w is q8_0, expected", arch::require_complete(match, *source));
      continue;
    }
    arch::require_complete(match, *source);
    for (bool keep : {true, false}) {
      const arch::build_options options{.device = cpu_backend(), .keep_quantised = keep};
      arch::weight_loader load(match, options);
      const arch::weight_view view = arch::view_of(match.entries[0]);
      CHECK(view.blocks.size() == 1 && view.rows == 64 && load.linear({"w"}).out_features() == 64);
    }
  }
}
