// Reading padded and ragged batches of any integer type.
#include "runtime/packed_rows.h"

#include "check.h"
#include "runtime/forward.h"

using namespace ft;
using namespace ft::runtime;

namespace {

packed_rows pack(const forward_inputs& in) {
  return pack_rows(in, /*vocab_size=*/10, /*type_vocab_size=*/2, /*max_positions=*/4);
}

}  // namespace

TEST(padding_on_either_side_is_dropped) {
  int64_t ids[] = {0, 0, 5, 6, 7, 8, 9, 0};
  uint8_t mask[] = {0, 0, 1, 1, 1, 1, 1, 0};
  int32_t types[] = {0, 0, 0, 1, 1, 0, 1, 0};
  const packed_rows rows = pack({.input_ids = tensor(ids, dtype::i64, {2, 4}),
                                 .attention_mask = tensor(mask, dtype::boolean, {2, 4}),
                                 .token_type_ids = tensor(types, dtype::i32, {2, 4})});
  CHECK(rows.token_ids == (std::vector<int32_t>{5, 6, 7, 8, 9}));
  CHECK(rows.token_type_ids == (std::vector<int32_t>{0, 1, 1, 0, 1}));
  CHECK(rows.row_offsets == (std::vector<int32_t>{0, 2, 5}));
  CHECK(rows.place == (std::vector<int64_t>{2, 3, 4, 5, 6}));
}

TEST(strided_ids_are_read_in_place) {
  int16_t ids[] = {1, 2, 3, 4, 5, 6};
  tensor transposed(ids, dtype::i16, {3, 2});
  transposed.stride = {1, 3};
  CHECK(pack({.input_ids = transposed}).token_ids == (std::vector<int32_t>{1, 4, 2, 5, 3, 6}));
}

TEST(integers_of_every_width) {
  int8_t i8[] = {7, 3};
  uint8_t u8[] = {7, 3};
  uint16_t u16[] = {7, 3};
  uint32_t u32[] = {7, 3};
  uint64_t u64[] = {7, 3};
  for (const tensor& ids :
       {tensor(i8, dtype::i8, {1, 2}), tensor(u8, dtype::u8, {1, 2}), tensor(u16, dtype::u16, {1, 2}),
        tensor(u32, dtype::u32, {1, 2}), tensor(u64, dtype::u64, {1, 2})})
    CHECK(pack({.input_ids = ids}).token_ids == (std::vector<int32_t>{7, 3}));
  u64[1] = ~uint64_t{0};
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "input_ids holds", pack({.input_ids = tensor(u64, dtype::u64, {1, 2})}));
}

TEST(ragged_rows) {
  int32_t ids[] = {1, 2, 3};
  int64_t offsets[] = {0, 1, 3};
  const packed_rows rows =
      pack({.input_ids = tensor(ids, dtype::i32, {3}), .row_offsets = tensor(offsets, dtype::i64, {3})});
  CHECK(rows.row_offsets == (std::vector<int32_t>{0, 1, 3}));
  CHECK_EQ(rows.num_places(), 3);
}

TEST(faults_are_named) {
  int32_t ids[] = {1, 2, 3, 10, 1, 1};
  float floats[4] = {};
  int32_t zeros[6] = {};
  int32_t bad_offsets[] = {0, 4, 3, 6};
  const auto refused = [](const forward_inputs& in, const char* text) {
    CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, text, pack(in));
  };
  refused({}, "input_ids is not given");
  refused({.input_ids = tensor(floats, dtype::f32, {2, 2})}, "float32");
  refused({.input_ids = tensor(ids, dtype::i32, {6})}, "row_offsets");
  refused({.input_ids = tensor(ids, dtype::i32, {2, 3})}, "input_ids holds 10 at [1, 0]");
  refused({.input_ids = tensor(ids, dtype::i32, {1, 5})}, "holds 10");
  refused({.input_ids = tensor(zeros, dtype::i32, {1, 6})}, "4 positions");
  refused({.input_ids = tensor(ids, dtype::i32, {1, 3}), .attention_mask = tensor(zeros, dtype::i32, {1, 3})},
          "row 0 has no tokens");
  refused({.input_ids = tensor(ids, dtype::i32, {1, 3}), .attention_mask = tensor(zeros, dtype::i32, {1, 2})}, "shape");
  refused({.input_ids = tensor(zeros, dtype::i32, {6}), .row_offsets = tensor(bad_offsets, dtype::i32, {4})},
          "row_offsets");
}
