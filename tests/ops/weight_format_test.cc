// Weight formats: where they may be cut, how their parts lie, and that what is cut or copied expands to the same
// values. A format that is made up here, of integers in groups with scales, zeros and an order of inputs, shows that
// the parts that no format in the table has yet need no more than a line of it.
#include "ops/weight_format.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "check.h"

namespace ft::test {
namespace {

constexpr int group = 8;

void expand_groups(const stored_weight& w, int64_t row, float* out) {
  for (int64_t k = 0; k < w.columns(); ++k) {
    const int q = w.data.as<const uint8_t>()[row * w.data.stride[0] + k * w.data.stride[1]];
    const int64_t g = k / group;
    const float scale = w.scales.as<const float>()[row / 2 * w.scales.stride[0] + g * w.scales.stride[1]];
    const int zero = w.zeros.as<const uint8_t>()[row * w.zeros.stride[0] + g * w.zeros.stride[1]];
    out[k] = scale * static_cast<float>(q - zero);
  }
}

// A scale for 2 outputs and `group` inputs, a zero for each output and `group` inputs.
constexpr weight_format groups{.name = "groups",
                               .kind = weight_kind::int8_rows,
                               .data = dtype::u8,
                               .any_strides = true,
                               .scales = weight_grid{dtype::f32, 2, group},
                               .zeros = weight_grid{dtype::u8, 1, group},
                               .expand = expand_groups};
constexpr weight_format ordered{.name = "ordered",
                                .kind = weight_kind::int8_rows,
                                .data = dtype::u8,
                                .any_strides = true,
                                .scales = weight_grid{dtype::f32, 2, group},
                                .zeros = weight_grid{dtype::u8, 1, group},
                                .order = weight_grid{dtype::i32, 0, 1},
                                .expand = expand_groups};

const weight_format& named(std::string_view name) {
  for (const weight_format& f : weight_formats())
    if (f.name == name) return f;
  throw failure("there is no such format");
}

// A weight of this format in memory of its own.
struct drawn {
  drawn(const weight_format& format, int64_t rows, int64_t columns, std::mt19937& random)
      : memory(bytes_of(format, rows, columns)), weight(laid_out(format, memory.data(), rows, columns)) {
    for (uint8_t& b : memory) b = static_cast<uint8_t>(random() & 0x3b);  // halves and floats of it are finite
    if (weight.order) {
      auto* order = weight.order.as<int32_t>();
      std::iota(order, order + columns, 0);
      std::shuffle(order, order + columns, random);
    }
  }
  std::vector<uint8_t> memory;
  stored_weight weight;
};

std::vector<float> expanded(const stored_weight& w) {
  std::vector<float> values(static_cast<size_t>(w.rows() * w.columns()));
  for (int64_t r = 0; r < w.rows(); ++r) w.expand(r, values.data() + r * w.columns());
  return values;
}

std::vector<float> cut(const std::vector<float>& values, int64_t columns, int64_t top, int64_t bottom, int64_t left,
                       int64_t right) {
  std::vector<float> part;
  for (int64_t r = top; r < bottom; ++r)
    part.insert(part.end(), values.begin() + r * columns + left, values.begin() + r * columns + right);
  return part;
}

}  // namespace

TEST(every_format_is_described_once) {
  for (const weight_format& f : weight_formats()) {
    CHECK(f.expand && !f.name.empty() && f.row_unit >= 1);
    CHECK(named(f.name) == f);
    CHECK_EQ(f.column_unit, traits(f.data).block_elements);
    CHECK((find_weight_format(f.data) != nullptr) == f.data_alone());
    CHECK(!f.is_float() || &computed_format(f.data) == &f);
  }
  CHECK(computed_format(dtype::i8).kind == weight_kind::int8_rows);
  CHECK(!find_weight_format(dtype::i8) && !find_weight_format(dtype::i32) && !find_weight_format(dtype::f64));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "int32", weight_format_of(dtype::i32));
  CHECK_ERROR(FT_ERROR_UNSUPPORTED, "computes in", computed_format(dtype::q4_0));
}

TEST(formats_are_cut_between_their_units) {
  const auto both = [](const weight_format& f, int64_t at) { return cat(f.may_cut(0, at), f.may_cut(1, at)); };
  CHECK_EQ(both(named("float16"), 7), "11");
  CHECK_EQ(both(named("int8"), 7), "11");
  CHECK_EQ(both(named("q4_0"), 16), "10");
  CHECK_EQ(both(named("q4_0"), 32), "11");
  CHECK_EQ(both(named("q6_k"), 128), "10");
  CHECK_EQ(both(groups, 3), "00");
  CHECK_EQ(both(groups, 2), "10");
  CHECK_EQ(both(groups, 8), "11");
  CHECK_EQ(both(ordered, 8), "10");  // what stands side by side there are not neighbouring inputs
}

TEST(a_piece_of_a_weight_expands_to_its_piece_of_the_values) {
  std::mt19937 random(std::random_device{}());
  for (const weight_format* f :
       {&named("float32"), &named("bfloat16"), &named("int8"), &named("q4_1"), &named("q5_k"), &groups, &ordered}) {
    const int64_t unit = f->kind == weight_kind::gguf_blocks ? f->column_unit : group;
    const int64_t rows = 12, columns = 3 * unit;
    const drawn whole(*f, rows, columns, random);
    const std::vector<float> values = expanded(whole.weight);
    const auto expect = [&](const stored_weight& w, int64_t top, int64_t bottom, int64_t left, int64_t right) {
      const std::vector<float> got = expanded(w), want = cut(values, columns, top, bottom, left, right);
      CHECK_MSG(got.size() == want.size() && std::memcmp(got.data(), want.data(), 4 * want.size()) == 0, f->name);
    };
    expect(whole.weight.slice(0, 4, 10), 4, 10, 0, columns);
    expect(whole.weight.slice(0, 4, 12), 4, 12, 0, columns);
    if (f->order) {
      CHECK_ERROR(FT_ERROR_INTERNAL, "", whole.weight.slice(1, unit, columns));
    } else {
      expect(whole.weight.slice(1, unit, columns), 0, rows, unit, columns);
      expect(whole.weight.slice(1, unit, 2 * unit).slice(0, 2, 6), 2, 6, unit, 2 * unit);
    }
    // Brought together again, from pieces that lie apart.
    std::vector<uint8_t> memory(bytes_of(*f, rows, columns));
    const stored_weight copy = laid_out(*f, memory.data(), rows, columns);
    copy_part(whole.weight.slice(0, 0, 4), copy, 0, 0);
    if (f->order) {
      copy_part(whole.weight.slice(0, 4, rows), copy, 4, 0);
    } else {
      copy_part(whole.weight.slice(0, 4, rows).slice(1, 0, unit), copy, 4, 0);
      copy_part(whole.weight.slice(0, 4, rows).slice(1, unit, columns), copy, 4, unit);
    }
    expect(copy, 0, rows, 0, columns);
  }
}

TEST(an_order_of_inputs_is_undone_by_expanding) {
  std::mt19937 random(std::random_device{}());
  const int64_t rows = 4, columns = 3 * group;
  const drawn w(ordered, rows, columns, random);
  std::vector<float> in_order_of_data(static_cast<size_t>(columns));
  for (int64_t r = 0; r < rows; r += 2) {  // a cut falls between the scales of two outputs
    expand_groups(w.weight, r, in_order_of_data.data());
    const std::vector<float> row = expanded(w.weight.slice(0, r, rows));
    for (int64_t k = 0; k < columns; ++k)
      CHECK_EQ(row[static_cast<size_t>(w.weight.order.as<int32_t>()[k])], in_order_of_data[static_cast<size_t>(k)]);
  }
}

}  // namespace ft::test
