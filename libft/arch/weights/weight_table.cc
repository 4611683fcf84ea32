#include "arch/weights/weight_table.h"

#include <algorithm>
#include <span>
#include <unordered_set>

#include "core/status.h"
#include "ops/weight_format.h"

namespace ft::arch {
namespace {

template <class Dims>
std::string shape_text(const Dims& shape) {
  std::string text;
  for (int64_t n : shape) text += cat(text.empty() ? "" : ", ", n);
  return "[" + text + "]";
}

std::span<const int64_t> shape_of(const tensor& t) { return {t.shape.data(), static_cast<size_t>(t.rank)}; }

bool usable(dtype type, const weight_match::entry& entry) {
  const weight_format* format = find_weight_format(type);
  if (!format) return false;
  return (format->is_float() || entry.spec->may_quantise) && (format->any_strides || !entry.source->layout.transposed);
}

std::string names_of(const weight_source& source) {
  std::string text;
  for (const std::string& piece : source.pieces) text += cat(text.empty() ? "" : " + ", piece);
  return text;
}

std::string line_of_missing(const weight_spec& spec) {
  const weight_source& first = spec.sources.front();
  std::string line = cat(names_of(first), " ", shape_text(spec.stored_shape(first)), " is missing");
  for (size_t i = 1; i < spec.sources.size(); ++i)
    line += cat(i == 1 ? " (also looked for: " : ", ", names_of(spec.sources[i]));
  return spec.sources.size() > 1 ? line + ")" : line;
}

// The faults found so far, each told once: weights that share a tensor share its faults.
struct faults {
  std::unordered_set<std::string> told;
  std::string text;
  size_t left_out = 0;
  bool only_unsupported = true;

  void add(std::string line, bool unsupported = false) {
    constexpr size_t most_lines = 60;  // all of a real mistake; not the 10,000 layers of a lying configuration
    if (told.contains(line)) return;
    if (told.size() < most_lines)
      text += "\n  " + line;
    else
      ++left_out;
    told.insert(std::move(line));
    only_unsupported = only_unsupported && unsupported;
  }
};

void check_piece(faults& found, const weight_match::entry& entry, size_t index, const std::vector<int64_t>& expected) {
  const auto& [stored, foreign] = entry.pieces[index];
  if (foreign) return found.add(cat(foreign->name, ": ", foreign->fault), /*unsupported=*/true);
  if (!stored) return found.add(cat(entry.source->pieces[index], " ", shape_text(expected), " is missing"));
  const tensor& t = stored->data;
  if (!expected.empty() && !std::ranges::equal(shape_of(t), expected)) {
    if (entry.source->layout.flat && t.rank == 1)  // all that can be seen of a file without a header is its length
      found.add(cat(stored->name, " has ", bytes_of(t.type, t.size()), " bytes, expected ",
                    bytes_of(t.type, expected[0]), " (", stored->file->path(), ")"));
    else
      found.add(cat(stored->name, " has shape ", shape_text(shape_of(t)), ", expected ", shape_text(expected)));
  }
  if (!usable(t.type, entry))
    return found.add(cat(stored->name, " is ", name(t.type), ", expected float32, float16",
                         entry.spec->may_quantise ? ", bfloat16 or a quantised type" : " or bfloat16"));
  const io::stored_tensor* first = entry.pieces[0].stored;
  if (first && t.type != first->data.type)
    found.add(cat(stored->name, " is ", name(t.type), ", but ", first->name, " is ", name(first->data.type)));
}

// Whether a rank's share begins or ends where the format cannot be cut.
bool cuts_units(const weight_spec& spec, dtype type) {
  const weight_format* format = find_weight_format(type);
  const int axis = static_cast<int>(spec.split_axis());
  return format && spec.share &&
         !(format->may_cut(axis, spec.share_begin()) && format->may_cut(axis, spec.share_end()));
}

void check_entry(faults& found, const weight_match::entry& entry) {
  const weight_spec& spec = *entry.spec;
  if (!entry) {
    if (spec.required) found.add(line_of_missing(spec));
    return;
  }
  const std::vector<int64_t> expected = spec.stored_shape(*entry.source);
  if (expected.empty())
    found.add(cat(names_of(*entry.source), ": ", spec.name, " ", shape_text(spec.shape), " cannot be cut into ",
                  entry.pieces.size(), " pieces of ", entry.source->layout.groups, " groups"));
  for (size_t i = 0; i < entry.pieces.size(); ++i) check_piece(found, entry, i, expected);
}

// The files are sound; it is the split that does not suit them.
void refuse_cut_units(const weight_match& match) {
  for (const weight_match::entry& entry : match.entries)
    if (entry && cuts_units(*entry.spec, entry.pieces[0].stored->data.type))
      fail(FT_ERROR_INVALID_ARGUMENT, "tensor_parallel would cut ", entry.pieces[0].stored->name, " (",
           name(entry.pieces[0].stored->data.type), ") in the midst of a block, at ", entry.spec->share_begin(),
           " and ", entry.spec->share_end(), " of ", entry.spec->shape[entry.spec->split_axis()],
           "; take fewer ranks, or give the model another dtype first, with `pyft convert`");
}

// The first source that is there as a whole, else the first of which a piece is there.
weight_match::entry match_one(const weight_spec& spec, const io::checkpoint& checkpoint) {
  weight_match::entry best{&spec};
  for (const weight_source& source : spec.sources) {
    weight_match::entry entry{&spec, &source};
    size_t found = 0;
    for (const std::string& piece : source.pieces) {
      entry.pieces.push_back({checkpoint.find(piece), checkpoint.find_foreign(piece)});
      found += entry.pieces.back() ? 1 : 0;
    }
    if (found == source.pieces.size()) return entry;
    if (found && !best) best = std::move(entry);
  }
  return best;
}

}  // namespace

std::vector<int64_t> weight_spec::stored_shape(const weight_source& source) const {
  const weight_layout& layout = source.layout;
  const auto pieces = static_cast<int64_t>(source.pieces.size());
  std::vector<int64_t> stored = shape;
  int64_t& length = stored[split_axis()];
  if (source.is_share) length = share_end() - share_begin();
  if (length % pieces != 0) return {};
  length /= pieces;
  if (stored[0] % layout.groups != 0) return {};
  stored[0] *= layout.parts;
  if (layout.transposed && stored.size() == 2) std::swap(stored[0], stored[1]);
  if (layout.as_row) stored.insert(stored.begin(), 1);
  if (!layout.flat) return stored;
  int64_t size = 1;
  for (int64_t n : stored) size *= n;
  return {size};
}

void split_sources(weight_table& table, int ranks, bool vocabulary) {
  for (weight_spec& spec : table) {
    const bool split = spec.shard != shard_axis::none && (vocabulary || spec.shard != shard_axis::vocabulary);
    for (weight_source& source : spec.sources) {
      if (source.layout.divided) source.layout.scale = static_cast<float>(ranks);
      if (!split) continue;
      const std::string name = std::move(source.pieces.front());
      source.pieces.clear();
      for (int rank = 0; rank < ranks; ++rank) source.pieces.push_back(cat(name, ".", rank));
      // A number that cannot be dealt out stays, and is told as a fault of the shape.
      if (source.layout.groups % ranks == 0) source.layout.groups /= ranks;
    }
  }
}

const weight_match::entry* weight_match::find(std::string_view name) const {
  const auto at = index.find(name);
  return at == index.end() ? nullptr : &entries[at->second];
}

weight_match match(const weight_table& table, const io::checkpoint& source) {
  weight_match result;
  std::unordered_set<const void*> used;
  result.entries.reserve(table.size());
  result.index.reserve(table.size());
  for (const weight_spec& spec : table) {
    result.index.emplace(spec.name, result.entries.size());
    result.entries.push_back(match_one(spec, source));
    for (const auto& [stored, foreign] : result.entries.back().pieces) {
      used.insert(stored);
      used.insert(foreign);
    }
  }
  for (const io::stored_tensor& stored : source.tensors())
    if (!used.contains(&stored)) result.unused.push_back(&stored);
  for (const io::foreign_tensor& foreign : source.foreign_tensors())
    if (!used.contains(&foreign)) result.unused_foreign.push_back(&foreign);
  return result;
}

std::vector<missing_tensor> missing(const weight_match& match) {
  std::vector<missing_tensor> result;
  std::unordered_set<std::string_view> listed;
  for (const weight_match::entry& entry : match.entries) {
    if (!entry && !entry.spec->required) continue;
    const weight_source& source = entry ? *entry.source : entry.spec->sources.front();
    for (size_t i = 0; i < source.pieces.size(); ++i)
      if ((!entry || !entry.pieces[i]) && listed.insert(source.pieces[i]).second)
        result.push_back({source.pieces[i], entry.spec->stored_shape(source)});
  }
  return result;
}

void require_complete(const weight_match& match, const io::checkpoint& source) {
  faults found;
  for (const weight_match::entry& entry : match.entries) check_entry(found, entry);
  const size_t count = found.told.size();
  if (!count) return refuse_cut_units(match);
  if (found.left_out) found.text += cat("\n  and ", found.left_out, " more");
  fail(found.only_unsupported ? FT_ERROR_UNSUPPORTED : FT_ERROR_CHECKPOINT, source.source(), ": ", count,
       count == 1 ? " tensor does" : " tensors do", " not fit ",
       found.only_unsupported ? "what libft supports:" : "the configuration:", found.text);
}

}  // namespace ft::arch
