// nlohmann/json's event parser builds the tree here, so that depth and repeated keys are judged while they are read.
#include "io/text/json.h"

#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/status.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

constexpr size_t max_depth = 64;

// Empties a tree from its leaves up, so that every node nlohmann destroys is a scalar or an empty container, for which
// its destructor allocates nothing. A node that became a container as memory ran out says it is one and has none, which
// that destructor would follow: it holds nothing, and begins anew as null.
void dismantle(json& node) noexcept {
  if ((node.is_array() && !node.get_ptr<json::array_t*>()) || (node.is_object() && !node.get_ptr<json::object_t*>()))
    new (&node) json();
  if (auto* array = node.get_ptr<json::array_t*>()) {
    for (; !array->empty(); array->pop_back()) dismantle(array->back());
  } else if (auto* object = node.get_ptr<json::object_t*>()) {
    for (; !object->empty(); object->erase(object->begin())) dismantle(object->begin()->second);
  }
}

// Characters of a text, telling how far the parser has come.
class tracked_iterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  tracked_iterator(const char* at, const char** reached) : at_(at), reached_(reached) {}
  reference operator*() const { return *at_; }
  tracked_iterator& operator++() {
    *reached_ = ++at_;
    return *this;
  }
  tracked_iterator operator++(int) {
    tracked_iterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const tracked_iterator& other) const { return at_ == other.at_; }
  bool operator!=(const tracked_iterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** reached_;
};

// The receiver of nlohmann's parse events.
class tree_builder {
 public:
  tree_builder(json& root, const std::string& file, const char* begin, const char* const* reached)
      : root_(root), file_(file), begin_(begin), reached_(reached) {}

  bool null() { return add(json()); }
  bool boolean(bool value) { return add(json(value)); }
  bool number_integer(json::number_integer_t value) { return add(json(value)); }
  bool number_unsigned(json::number_unsigned_t value) { return add(json(value)); }
  bool number_float(json::number_float_t value, const json::string_t&) { return add(json(value)); }
  bool string(json::string_t& value) { return add(json(std::move(value))); }
  bool binary(json::binary_t&) { return false; }  // JSON text has none
  bool start_object(size_t) { return open(json::value_t::object); }
  bool start_array(size_t) { return open(json::value_t::array); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(json::string_t& name) {
    auto& object = open_.back()->get_ref<json::object_t&>();
    auto [place, fresh] = object.emplace(std::move(name), nullptr);
    if (!fresh) fault("the key '", printable(place->first), "' appears twice in one object");
    slot_ = &place->second;
    return true;
  }

  template <class Exception>
  bool parse_error(size_t, const std::string&, const Exception& e) {
    std::string_view why = e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    if (size_t end = why.find("] "); end != why.npos) why.remove_prefix(end + 2);
    fault(printable(why));
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_, ": invalid JSON at byte ", *reached_ - begin_, ": ", args...);
  }

  bool add(json&& value) {
    place(std::move(value));
    return true;
  }

  json* place(json&& value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (auto* array = open_.back()->get_ptr<json::array_t*>()) return &array->emplace_back(std::move(value));
    return &(*slot_ = std::move(value));
  }

  bool open(json::value_t type) {
    if (open_.size() == max_depth) fault("nested deeper than ", max_depth, " levels");
    open_.push_back(place(json(type)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  json& root_;
  const std::string& file_;
  const char* begin_;
  const char* const* reached_;
  std::vector<json*> open_;  // containers being filled; each is its parent's newest element, so it stays where it is
  json* slot_ = nullptr;     // where the value of the object's last key goes
};

}  // namespace

void json_deleter::operator()(json* tree) const noexcept {
  dismantle(*tree);
  delete tree;
}

json_ptr make_json() { return json_ptr(new json(json::value_t::object)); }

json_ptr parse_json(std::string_view text, const std::string& file) {
  json_ptr root(new json);
  const char* reached = text.data();
  tree_builder builder(*root, file, text.data(), &reached);
  const char* end = text.data() + text.size();
  // Strict: nothing but white space may follow the value. The builder throws at the first fault.
  json::sax_parse(tracked_iterator(text.data(), &reached), tracked_iterator(end, &reached), &builder);
  return root;
}

json_reader::json_reader(const json& object, std::string file) : object_(&object), file_(std::move(file)) {
  if (!object.is_object()) fail(FT_ERROR_CHECKPOINT, file_, ": a JSON object was expected, not ", object.type_name());
}

const json* json_reader::find(std::string_view key) const {
  auto at = object_->find(key);
  return at == object_->end() || at->is_null() ? nullptr : &*at;
}

const json& json_reader::require(std::string_view key) const {
  const json* value = find(key);
  if (!value) fail(FT_ERROR_CHECKPOINT, file_, ": the key '", path_, key, "' is missing");
  return *value;
}

void json_reader::wrong_type(std::string_view key, const json& value, std::string_view expected) const {
  fail(FT_ERROR_CHECKPOINT, file_, ": '", path_, key, "' must be ", expected, ", not ", value.type_name(),
       value.is_primitive() ? cat(" ", printable(value.dump(-1, ' ', true))) : std::string());
}

int64_t json_reader::as_integer(std::string_view key, const json& value) const {
  if (!value.is_number_integer()) wrong_type(key, value, "an integer");
  if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()})
    wrong_type(key, value, "an integer below 2^63");
  return value.get<int64_t>();
}

double json_reader::as_number(std::string_view key, const json& value) const {
  if (!value.is_number()) wrong_type(key, value, "a number");
  return value.get<double>();
}

int64_t json_reader::integer(std::string_view key) const { return as_integer(key, require(key)); }

int64_t json_reader::integer(std::string_view key, int64_t otherwise) const {
  const json* value = find(key);
  return value ? as_integer(key, *value) : otherwise;
}

double json_reader::number(std::string_view key) const { return as_number(key, require(key)); }

double json_reader::number(std::string_view key, double otherwise) const {
  const json* value = find(key);
  return value ? as_number(key, *value) : otherwise;
}

bool json_reader::boolean(std::string_view key, bool otherwise) const {
  const json* value = find(key);
  if (!value) return otherwise;
  if (!value->is_boolean()) wrong_type(key, *value, "true or false");
  return value->get<bool>();
}

std::string json_reader::string(std::string_view key) const {
  const json& value = require(key);
  if (!value.is_string()) wrong_type(key, value, "a string");
  return value.get<std::string>();
}

std::string json_reader::string(std::string_view key, std::string_view otherwise) const {
  return has(key) ? string(key) : std::string(otherwise);
}

std::optional<json_reader> json_reader::object(std::string_view key) const {
  const json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_object()) wrong_type(key, *value, "an object");
  json_reader reader(*value, file_);
  reader.path_ = cat(path_, key, ".");
  return reader;
}

}  // namespace ft::io
