// Reading padded and ragged batches of any integer type.
#include "runtime/forward/packed_rows.h"

#include "check.h"
#include "runtime/forward/forward.h"

using namespace ft;
using namespace ft::runtime;

namespace {

packed_rows pack(const forward_inputs& in) {
  return pack_rows(in, /*vocab_size=*/10, /*type_vocab_size=*/2, /*max_positions=*/4, /*embedding_width=*/3);
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

TEST(embeddings_in_the_place_of_ids) {
  float values[2 * 3 * 3];  // [batch, seq, width]
  for (int i = 0; i < 18; ++i) values[i] = static_cast<float>(i);
  uint8_t mask[] = {0, 1, 1, 1, 0, 0};
  float read[3];
  const packed_rows rows = pack(
      {.attention_mask = tensor(mask, dtype::boolean, {2, 3}), .inputs_embeds = tensor(values, dtype::f32, {2, 3, 3})});
  CHECK(rows.token_ids == (std::vector<int32_t>{0, 0, 0}));
  CHECK(rows.row_offsets == (std::vector<int32_t>{0, 2, 3}));
  rows.read_embedding(2, read);
  CHECK(std::vector<float>(read, read + 3) == (std::vector<float>{9, 10, 11}));

  // Strides of any kind, backwards too, and other float types.
  double doubles[6] = {1, 2, 3, 4, 5, 6};  // [width, tokens], the width backwards
  int32_t offsets[] = {0, 2};
  tensor turned(doubles + 4, dtype::f64, {2, 3});
  turned.stride = {1, -2};
  const packed_rows ragged = pack({.row_offsets = tensor(offsets, dtype::i32, {2}), .inputs_embeds = turned});
  ragged.read_embedding(1, read);
  CHECK(std::vector<float>(read, read + 3) == (std::vector<float>{6, 4, 2}));
  uint16_t halves[3] = {0x3f80, 0xc000, 0x0000};
  const packed_rows half = pack({.inputs_embeds = tensor(halves, dtype::bf16, {1, 1, 3})});
  half.read_embedding(0, read);
  CHECK(std::vector<float>(read, read + 3) == (std::vector<float>{1, -2, 0}));
}

TEST(wrong_embeddings_are_named) {
  float values[12] = {};
  int32_t ids[4] = {};
  const tensor good(values, dtype::f32, {1, 4, 3}), tokens(ids, dtype::i32, {1, 4});
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "both given", pack({.input_ids = tokens, .inputs_embeds = good}));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "input_ids is not given", pack({.attention_mask = tokens}));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "rows of 4", pack({.inputs_embeds = tensor(values, dtype::f32, {1, 3, 4})}));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "2 dimensions", pack({.inputs_embeds = tensor(values, dtype::f32, {4, 3})}));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "hold floats", pack({.inputs_embeds = tensor(ids, dtype::i32, {1, 1, 3})}));
  CHECK_ERROR(FT_ERROR_INVALID_ARGUMENT, "inputs_embeds differ in shape",
              pack({.attention_mask = tensor(ids, dtype::i32, {1, 3}), .inputs_embeds = good}));
}
