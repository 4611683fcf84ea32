// Gives torch's meaning to the values of a pickle: dictionaries of tensors, storages in the archive.
#include "io/torch/torch_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>

#include "core/status.h"
#include "io/text/printable.h"
#include "io/torch/pickle.h"
#include "io/torch/zip.h"

namespace ft::io {
namespace {

using kind = pickle_value::kind;

constexpr size_t max_pickle_bytes = 64 << 20;
constexpr int max_depth = 32;            // of dictionaries
constexpr size_t max_steps = 1 << 20;    // values looked at: a small pickle can name one value very often
constexpr size_t max_name_bytes = 1024;  // of a tensor
constexpr size_t max_tensors = 1 << 18;

struct storage_type {
  std::string_view global;
  dtype type;
};

constexpr std::array<storage_type, 9> storage_types = {{
    {"torch FloatStorage", dtype::f32},
    {"torch HalfStorage", dtype::f16},
    {"torch BFloat16Storage", dtype::bf16},
    {"torch DoubleStorage", dtype::f64},
    {"torch CharStorage", dtype::i8},
    {"torch ByteStorage", dtype::u8},
    {"torch IntStorage", dtype::i32},
    {"torch LongStorage", dtype::i64},
    {"torch BoolStorage", dtype::boolean},
}};

class torch_reader {
 public:
  explicit torch_reader(const std::shared_ptr<const mapped_file>& file) : file_(file) {
    for (const zip_entry& e : read_zip(*file)) {
      if (e.name.ends_with("/data.pkl") && folder_.empty()) folder_ = e.name.substr(0, e.name.size() - 8);
      entries_.emplace(e.name, e);
    }
    if (folder_.empty()) fault("is no file of torch.save: the archive has no data.pkl");
    check_byte_order();
    const std::string_view bytes = contents(entries_.at(cat(folder_, "data.pkl")));
    if (bytes.size() > max_pickle_bytes)
      fault("its pickle has ", bytes.size(), " bytes; at most ", max_pickle_bytes, " are read");
    graph_ = read_pickle(bytes, file->path());
  }

  torch_contents read() {
    result_.scalars = make_json();
    const pickle_value& root = graph_[graph_.root];
    if (!root.is_dictionary) fault("holds no dictionary of tensors");
    std::string name;
    visit_dictionary(root, name, 0);
    read_scalars(root, *result_.scalars, /*nested=*/true);
    return std::move(result_);
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_->path(), ": ", args...);
  }
  template <class... Args>
  [[noreturn]] void tensor_fault(const std::string& name, const Args&... args) const {
    fault("tensor '", printable(name), "': ", args...);
  }

  std::string_view contents(const zip_entry& e) const { return file_->text().substr(e.offset, e.size); }

  void check_byte_order() const {
    const auto entry = entries_.find(cat(folder_, "byteorder"));
    if (entry == entries_.end() || contents(entry->second) == "little") return;
    fail(FT_ERROR_UNSUPPORTED, file_->path(), ": its tensors are in ", printable(contents(entry->second)),
         "-endian order; only little-endian files are supported");
  }

  // The global that an object is made by; empty for every other value.
  std::string_view maker(const pickle_value& value) const {
    if (value.type != kind::object) return {};
    const pickle_value& callable = graph_[value.callable];
    return callable.type == kind::global ? callable.text : std::string_view();
  }

  void visit(const pickle_value& value, std::string& name, int depth) {
    if (++steps_ > max_steps) fault("its pickle holds more than ", max_steps, " values");
    const std::string_view made_by = maker(value);
    if (made_by == "torch._utils _rebuild_tensor_v2") {
      add_tensor(name, graph_[value.arguments].items);
    } else if (made_by.starts_with("torch._utils _rebuild_parameter")) {  // ..._with_state too
      const auto& arguments = graph_[value.arguments].items;
      if (arguments.empty()) tensor_fault(name, "is a parameter of nothing");
      if (depth == max_depth) fault("its values are nested deeper than ", max_depth, " levels");
      visit(graph_[arguments[0]], name, depth + 1);
    } else if (value.is_dictionary) {
      visit_dictionary(value, name, depth);
    }
  }

  // `name` is that of the dictionary; it is lent to the children and given back as it was.
  void visit_dictionary(const pickle_value& dictionary, std::string& name, int depth) {
    if (depth == max_depth) fault("its dictionaries are nested deeper than ", max_depth, " levels");
    const size_t length = name.size();
    for (size_t i = 0; i + 1 < dictionary.items.size(); i += 2) {
      const pickle_value& key = graph_[dictionary.items[i]];
      const std::string text = key.type == kind::integer ? std::to_string(key.integer) : std::string(key.text);
      if (key.type != kind::integer && (key.type != kind::text || !is_name(text))) continue;
      if (length + text.size() >= max_name_bytes) continue;
      if (length) name += '.';
      name += text;
      visit(graph_[dictionary.items[i + 1]], name, depth + 1);
      name.resize(length);
    }
  }

  // An integer from 0 to 2^62, so that sums of two do not overflow.
  uint64_t count(const std::string& name, pickle_value::reference at, const char* what) const {
    const pickle_value& value = graph_[at];
    if (value.type != kind::integer || value.integer < 0 || value.integer > int64_t{1} << 62)
      tensor_fault(name, "its ", what, " is no whole number from 0 on");
    return static_cast<uint64_t>(value.integer);
  }

  std::vector<uint64_t> counts(const std::string& name, pickle_value::reference at, const char* what) const {
    std::vector<uint64_t> values;
    for (pickle_value::reference item : graph_[at].items) values.push_back(count(name, item, what));
    return values;
  }

  // _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks); offsets and strides count elements.
  void add_tensor(const std::string& name, const std::vector<pickle_value::reference>& arguments) {
    if (name.empty()) return;
    if (arguments.size() < 4) tensor_fault(name, "is rebuilt from ", arguments.size(), " values; there must be 4");
    const storage from = find_storage(name, graph_[arguments[0]]);
    const uint64_t offset = count(name, arguments[1], "offset");
    const std::vector<uint64_t> shape = counts(name, arguments[2], "size");
    const std::vector<uint64_t> stride = counts(name, arguments[3], "stride");
    if (shape.size() != stride.size())
      tensor_fault(name, "has ", shape.size(), " axes, but ", stride.size(), " strides");
    if (result_.found.tensors.size() + result_.found.foreign.size() == max_tensors)
      fault("holds more than ", max_tensors, " tensors");
    if (!from.type) return add_foreign(name, shape, from, cat("its dtype ", from.type_name, " is not supported"));
    if (shape.size() > tensor::max_rank)
      return add_foreign(name, shape, from,
                         cat("it has ", shape.size(), " axes; at most ", tensor::max_rank, " are supported"));
    check_reach(name, from, offset, shape, stride);
    const uint64_t begin = offset < from.elements ? offset * width_of(*from.type) : 0;
    stored_tensor t = view_stored(name, *from.type, shape, file_, from.offset + begin);
    for (size_t i = 0; i < stride.size(); ++i) t.data.stride[i] = static_cast<int64_t>(stride[i]);
    result_.found.tensors.push_back(std::move(t));
  }

  static uint64_t width_of(dtype type) { return static_cast<uint64_t>(traits(type).block_bytes); }

  struct storage {
    std::optional<dtype> type;  // nothing when libft has none such
    std::string_view type_name;
    uint64_t elements = 0;
    uint64_t offset = 0, bytes = 0;  // in the file
  };

  void add_foreign(const std::string& name, const std::vector<uint64_t>& shape, const storage& from, std::string why) {
    result_.found.foreign.push_back({.name = name,
                                     .dtype = std::string(from.type ? ft::name(*from.type) : from.type_name),
                                     .shape = {shape.begin(), shape.end()},
                                     .bytes = from.bytes,
                                     .fault = std::move(why),
                                     .file = file_});
  }

  // The tensor's last element must lie in its storage.
  void check_reach(const std::string& name, const storage& from, uint64_t offset, const std::vector<uint64_t>& shape,
                   const std::vector<uint64_t>& stride) const {
    if (!stored_bytes(*from.type, shape)) tensor_fault(name, "its shape is too large");
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return;
    uint64_t last = offset;
    for (size_t i = 0; i < shape.size(); ++i) {
      uint64_t reach = 0;
      if (__builtin_mul_overflow(shape[i] - 1, stride[i], &reach) || __builtin_add_overflow(last, reach, &last))
        tensor_fault(name, "its size and strides are too large");
    }
    if (last >= from.elements) tensor_fault(name, "reaches element ", last, " of a storage that has ", from.elements);
  }

  // ("storage", type, key, location, number of elements)
  storage find_storage(const std::string& name, const pickle_value& value) const {
    if (value.type != kind::persistent) tensor_fault(name, "has no storage");
    const auto& id = graph_[value.items[0]].items;
    if (id.size() < 5 || graph_[id[0]].text != "storage" || graph_[id[1]].type != kind::global ||
        graph_[id[2]].type != kind::text)
      tensor_fault(name, "its storage is not described as torch does");
    const std::string_view type = graph_[id[1]].text, key = graph_[id[2]].text;
    const auto entry = entries_.find(cat(folder_, "data/", key));
    if (entry == entries_.end()) tensor_fault(name, "its storage '", printable(key), "' is not in the archive");
    storage found{.type_name = type.substr(std::min(type.find(' ') + 1, type.size())),
                  .elements = count(name, id[4], "storage's length"),
                  .offset = entry->second.offset,
                  .bytes = entry->second.size};
    for (const storage_type& known : storage_types)
      if (known.global == type) found.type = known.type;
    if (found.type && found.bytes / width_of(*found.type) < found.elements)
      tensor_fault(name, "its storage '", printable(key), "' must have ", found.elements, " elements of ",
                   width_of(*found.type), " bytes, but has ", found.bytes, " bytes");
    return found;
  }

  void read_scalars(const pickle_value& from, json& into, bool nested) const {
    for (size_t i = 0; i + 1 < from.items.size(); i += 2) {
      const pickle_value& key = graph_[from.items[i]];
      const pickle_value& value = graph_[from.items[i + 1]];
      if (key.type != kind::text || !is_name(key.text)) continue;
      const std::string name(key.text);
      if (value.type == kind::boolean)
        into[name] = value.integer != 0;
      else if (value.type == kind::integer)
        into[name] = value.integer;
      else if (value.type == kind::real && std::isfinite(value.real))
        into[name] = value.real;
      else if (value.type == kind::text && is_name(value.text))
        into[name] = std::string(value.text);
      else if (const pickle_value& members = value.state ? graph_[value.state] : value;
               nested && members.is_dictionary && maker(value) != "torch._utils _rebuild_tensor_v2")
        read_scalars(members, into[name] = json::value_t::object, false);
    }
  }

  std::shared_ptr<const mapped_file> file_;
  std::string folder_;  // of the archive, with its "/"
  std::unordered_map<std::string, zip_entry> entries_;
  pickle graph_;
  size_t steps_ = 0;
  torch_contents result_;
};

}  // namespace

torch_contents read_torch_file(const std::shared_ptr<const mapped_file>& file) {
  // Before 1.6: five pickles one after another, the first of which is this number (LONG1, ten bytes).
  constexpr std::string_view old_magic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14);
  if (file->text().starts_with(old_magic))
    fail(FT_ERROR_UNSUPPORTED, file->path(),
         ": is in the format of torch before 1.6: load it with torch and save it again with torch.save");
  if (!is_zip(*file)) fail(FT_ERROR_CHECKPOINT, file->path(), ": is no file of torch.save");
  return torch_reader(file).read();
}

}  // namespace ft::io
