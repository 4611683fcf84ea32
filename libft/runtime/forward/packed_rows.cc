#include "runtime/forward/packed_rows.h"

#include <numeric>
#include <optional>
#include <span>

#include "core/status.h"
#include "ops/elementwise.h"
#include "ops/gguf_blocks.h"

namespace ft::runtime {
namespace {

// The tensors of one side, the model's input or its decoder's, which their names in messages tell apart.
struct token_inputs {
  const tensor& ids;     // this or
  const tensor& embeds;  // this, with one axis more
  const tensor& mask;
  const tensor& types;
  const tensor& row_offsets;
  bool embeds_on_device;
  std::string prefix;

  std::string name(const char* tensor) const { return prefix + tensor; }
  std::string tokens_name() const { return name(ids ? "input_ids" : "inputs_embeds"); }
  int rank() const { return ids ? ids.rank : embeds.rank - 1; }
  int64_t dim(int axis) const { return (ids ? ids : embeds).dim(axis); }
};

// f(the tensor's integers, as a pointer of their type)
template <class F>
auto with_integers(const tensor& t, F&& f) {
  switch (t.type) {
    case dtype::i64:
    case dtype::u64:
      return f(t.as<const int64_t>());
    case dtype::i32:
      return f(t.as<const int32_t>());
    case dtype::u32:
      return f(t.as<const uint32_t>());
    case dtype::i16:
      return f(t.as<const int16_t>());
    case dtype::u16:
      return f(t.as<const uint16_t>());
    case dtype::i8:
      return f(t.as<const int8_t>());
    default:
      return f(t.as<const uint8_t>());
  }
}

// Reads integers of any width through any strides.
class integers {
 public:
  integers(const tensor& t, std::string name) : t_(t), name_(std::move(name)) {
    if (is_float(t.type) || is_quantised(t.type))
      fail(FT_ERROR_INVALID_ARGUMENT, name, " has dtype ", ft::name(t.type), "; it must hold integers");
  }

  // A uint64 beyond int64 turns negative, which every use refuses.
  int64_t operator()(int64_t i, int64_t j = 0) const {
    const int64_t at = i * t_.stride[0] + j * t_.stride[1];
    return with_integers(t_, [at](const auto* values) { return static_cast<int64_t>(values[at]); });
  }

  // Appends those at the places of a row, each of which must be below the bound. A place counts through [batch, seq] or
  // [tokens].
  void append(std::vector<int32_t>& to, int64_t row, std::span<const int64_t> places, int64_t bound,
              const char* what) const {
    const bool padded = t_.rank == 2;
    const int64_t step = t_.stride[padded], first_place = padded ? row * t_.dim(1) : 0;
    const int64_t first = padded ? row * t_.stride[0] : 0;
    to.resize(to.size() + places.size());
    int32_t* out = to.data() + (to.size() - places.size());
    with_integers(t_, [&](const auto* values) {
      for (const int64_t place : places) {
        const auto value = static_cast<int64_t>(values[first + (place - first_place) * step]);
        if (value < 0 || value >= bound)
          fail(FT_ERROR_INVALID_ARGUMENT, name_, " holds ", value, " at [", padded ? cat(row, ", ") : "",
               place - first_place, "], outside the model's ", bound, " ", what);
        *out++ = static_cast<int32_t>(value);
      }
    });
  }

 private:
  const tensor& t_;
  std::string name_;
};

// What a token is: its id, zero where its embedding is given, and its type if there are types.
class token_reader {
 public:
  token_reader(const token_inputs& in, int64_t vocab_size, int64_t type_vocab_size)
      : vocab_size_(vocab_size), type_vocab_size_(type_vocab_size) {
    if (in.ids) ids_.emplace(in.ids, in.name("input_ids"));
    if (in.types) types_.emplace(in.types, in.name("token_type_ids"));
  }

  void reserve(packed_rows& rows, int64_t tokens) const {
    const auto n = static_cast<size_t>(tokens);
    rows.place.reserve(n);
    rows.token_ids.reserve(n);
    if (types_) rows.token_type_ids.reserve(n);
  }
  // The tokens of a row, whose places `rows` has from the last row's end on.
  void read(packed_rows& rows, int64_t row) const {
    const std::span places = std::span(rows.place).subspan(rows.token_ids.size());
    if (ids_)
      ids_->append(rows.token_ids, row, places, vocab_size_, "tokens");
    else
      rows.token_ids.resize(rows.place.size(), 0);
    if (types_) types_->append(rows.token_type_ids, row, places, type_vocab_size_, "token types");
  }

 private:
  std::optional<integers> ids_, types_;
  int64_t vocab_size_, type_vocab_size_;
};

void require_same_shape(const token_inputs& in, const tensor& t, const char* name) {
  if (!t) return;
  bool same = t.rank == in.rank();
  for (int axis = 0; same && axis < t.rank; ++axis) same = t.dim(axis) == in.dim(axis);
  if (!same) fail(FT_ERROR_INVALID_ARGUMENT, in.name(name), " and ", in.tokens_name(), " differ in shape");
}

void check_tokens(const token_inputs& in, int64_t embedding_width) {
  const std::string ids = in.name("input_ids"), embeds = in.name("inputs_embeds");
  if (!in.ids && !in.embeds) fail(FT_ERROR_INVALID_ARGUMENT, ids, " is not given, and no ", embeds, " either");
  if (in.ids && in.embeds) fail(FT_ERROR_INVALID_ARGUMENT, ids, " and ", embeds, " are both given; one is meant");
  if (in.rank() != (in.row_offsets ? 1 : 2))
    fail(FT_ERROR_INVALID_ARGUMENT, in.tokens_name(), " has ", (in.ids ? in.ids : in.embeds).rank,
         " dimensions; it must be ",
         in.ids ? "[batch, seq], or [total_tokens]" : "[batch, seq, width], or [tokens, width]", " together with ",
         in.name("row_offsets"));
  if (!in.embeds) return;
  if (!is_float(in.embeds.type))
    fail(FT_ERROR_INVALID_ARGUMENT, in.tokens_name(), " has dtype ", ft::name(in.embeds.type), "; it must hold floats");
  if (in.embeds_on_device && in.embeds.type == dtype::f64)
    fail(FT_ERROR_INVALID_ARGUMENT, in.tokens_name(), " is float64; on a GPU it must be float32, float16 or bfloat16");
  if (in.embeds.dim(-1) != embedding_width)
    fail(FT_ERROR_INVALID_ARGUMENT, in.tokens_name(), " has rows of ", in.embeds.dim(-1),
         "; the model's embeddings have ", embedding_width);
}

// Ends a row; rows without tokens and rows longer than the model's positions are refused.
void close_row(packed_rows& rows, const token_inputs& in, int64_t row, int64_t max_positions) {
  const int64_t length = static_cast<int64_t>(rows.token_ids.size()) - rows.row_offsets.back();
  const char* whose = in.prefix.empty() ? "row " : "decoder row ";
  if (length == 0) fail(FT_ERROR_INVALID_ARGUMENT, whose, row, " has no tokens");
  if (length > max_positions)
    fail(FT_ERROR_INVALID_ARGUMENT, whose, row, " has ", length, " tokens; the model has ", max_positions,
         " positions");
  rows.row_offsets.push_back(static_cast<int32_t>(rows.token_ids.size()));
}

packed_rows pack_ragged(const token_inputs& in, int64_t vocab_size, int64_t type_vocab_size, int64_t max_positions) {
  if (in.row_offsets.rank != 1 || in.row_offsets.dim(0) < 2)
    fail(FT_ERROR_INVALID_ARGUMENT, in.name("row_offsets"), " must be one-dimensional with at least two entries");
  if (in.mask)
    fail(FT_ERROR_INVALID_ARGUMENT, in.name("attention_mask"), " goes with padded ", in.tokens_name(),
         ", not with ragged ones");
  const token_reader tokens(in, vocab_size, type_vocab_size);
  const integers offsets(in.row_offsets, in.name("row_offsets"));

  packed_rows rows;
  rows.batch = in.row_offsets.dim(0) - 1;
  rows.row_offsets.push_back(0);
  if (offsets(0) != 0 || offsets(rows.batch) != in.dim(0))
    fail(FT_ERROR_INVALID_ARGUMENT, in.name("row_offsets"), " must start at 0 and end at ", in.dim(0),
         ", the number of ", in.tokens_name());
  tokens.reserve(rows, in.dim(0));
  for (int64_t row = 0; row < rows.batch; ++row) {
    const int64_t begin = offsets(row), end = offsets(row + 1);
    if (begin > end || begin < 0 || end > in.dim(0))
      fail(FT_ERROR_INVALID_ARGUMENT, in.name("row_offsets"), " falls from ", begin, " to ", end, " at row ", row);
    rows.place.resize(rows.place.size() + static_cast<size_t>(end - begin));
    std::iota(rows.place.end() - (end - begin), rows.place.end(), begin);
    tokens.read(rows, row);
    close_row(rows, in, row, max_positions);
  }
  return rows;
}

packed_rows pack_padded(const token_inputs& in, int64_t vocab_size, int64_t type_vocab_size, int64_t max_positions) {
  const token_reader tokens(in, vocab_size, type_vocab_size);
  std::optional<integers> mask;
  if (in.mask) mask.emplace(in.mask, in.name("attention_mask"));

  packed_rows rows;
  rows.batch = in.dim(0);
  rows.seq = in.dim(1);
  if (rows.batch < 1 || rows.seq < 1) fail(FT_ERROR_INVALID_ARGUMENT, in.tokens_name(), " is empty");
  rows.row_offsets.push_back(0);
  tokens.reserve(rows, rows.batch * rows.seq);
  for (int64_t b = 0; b < rows.batch; ++b) {
    for (int64_t s = 0; s < rows.seq; ++s)
      if (!mask || (*mask)(b, s) != 0) rows.place.push_back(b * rows.seq + s);
    tokens.read(rows, b);
    close_row(rows, in, b, max_positions);
  }
  return rows;
}

packed_rows pack(const token_inputs& in, int64_t vocab_size, int64_t type_vocab_size, int64_t max_positions,
                 int64_t embedding_width) {
  check_tokens(in, embedding_width);
  if (in.types && type_vocab_size == 0)
    fail(FT_ERROR_INVALID_ARGUMENT, "token_type_ids is given, but the model has no token types");
  require_same_shape(in, in.mask, "attention_mask");
  require_same_shape(in, in.types, "token_type_ids");
  packed_rows rows = in.row_offsets ? pack_ragged(in, vocab_size, type_vocab_size, max_positions)
                                    : pack_padded(in, vocab_size, type_vocab_size, max_positions);
  rows.embeds = in.embeds;
  rows.embeds_on_device = in.embeds_on_device;
  if (type_vocab_size && !in.types) rows.token_type_ids.assign(rows.token_ids.size(), 0);
  return rows;
}

}  // namespace

int64_t packed_rows::embedding_offset(int64_t token) const {
  const int64_t at = place[static_cast<size_t>(token)];
  return seq ? at / seq * embeds.stride[0] + at % seq * embeds.stride[1] : at * embeds.stride[0];
}

void packed_rows::read_embedding(int64_t token, float* out) const {
  const auto& stride = embeds.stride;
  const int64_t first = embedding_offset(token);
  const int64_t width = embeds.dim(-1), step = stride[seq ? 2 : 1];
  const auto element = [&](int64_t i) {
    return embeds.as<const char>() + (first + i * step) * static_cast<int64_t>(bytes_of(embeds.type, 1));
  };
  if (step == 1) return dequantise_row(embeds.type, element(0), width, out);
  for (int64_t i = 0; i < width; ++i) dequantise_row(embeds.type, element(i), 1, out + i);
}

// Tokens at equal distances are one matrix with strided rows. Where the elements of a token are apart, they are the
// rows.
void gather_embeddings(exec& ex, const packed_rows& rows, int64_t begin, const tensor& out) {
  const int64_t count = out.dim(0), width = out.dim(1), step = rows.embeds.stride[rows.embeds.rank - 1];
  const bool dense = step == 1 || width == 1;
  for (int64_t first = 0, end; first < count; first = end) {
    const int64_t at = rows.embedding_offset(begin + first);
    const int64_t distance = first + 1 < count ? rows.embedding_offset(begin + first + 1) - at : width;
    end = first + 1;
    while (dense && end < count && rows.embedding_offset(begin + end) == at + (end - first) * distance) ++end;
    tensor from = out.slice(0, first, end), to = from;
    from.data = rows.embeds.as<char>() + at * static_cast<int64_t>(bytes_of(from.type, 1));
    from.stride[0] = distance;
    if (!dense) {
      to = to.reshape({width, 1});
      from.shape = to.shape;
      from.stride[0] = step;
      from.stride[1] = 1;
    }
    ops::scale(ex, {.out = to, .x = from});
  }
}

packed_rows pack_rows(const forward_inputs& in, int64_t vocab_size, int64_t type_vocab_size, int64_t max_positions,
                      int64_t embedding_width) {
  return pack(
      {in.input_ids, in.inputs_embeds, in.attention_mask, in.token_type_ids, in.row_offsets, in.embeds_on_device, ""},
      vocab_size, type_vocab_size, max_positions, embedding_width);
}

packed_rows pack_decoder_rows(const forward_inputs& in, int64_t vocab_size, int64_t max_positions,
                              int64_t embedding_width) {
  const tensor no_types;
  return pack({in.decoder_input_ids, in.decoder_inputs_embeds, in.decoder_attention_mask, no_types,
               in.decoder_row_offsets, in.decoder_embeds_on_device, "decoder_"},
              vocab_size, 0, max_positions, embedding_width);
}

}  // namespace ft::runtime
