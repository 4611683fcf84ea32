// The stack machine of Python's pickletools, without its calls. Every opcode takes at least a byte and makes at most
// one value or reference beside those it is given, so memory stays in proportion to the pickle.
#include "io/torch/pickle.h"

#include <bit>
#include <unordered_map>

#include "core/status.h"
#include "io/text/printable.h"

namespace ft::io {
namespace {

using reference = pickle_value::reference;
using kind = pickle_value::kind;

class pickle_machine {
 public:
  pickle_machine(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {
    result_.values.emplace_back();  // none
  }

  pickle run() {
    while (step(take(1)[0])) {
    }
    return std::move(result_);
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(const Args&... args) const {
    fail(FT_ERROR_CHECKPOINT, file_, ": the pickle is damaged at byte ", opcode_at_, ": ", args...);
  }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) fault("it ends too early");
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  uint64_t take_number(int bytes) {
    uint64_t value = 0;
    const std::string_view taken = take(static_cast<uint64_t>(bytes));
    for (int i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(taken[static_cast<size_t>(i)]);
    return value;
  }

  std::string_view take_line() {
    const size_t end = bytes_.find('\n', at_);
    if (end == bytes_.npos) fault("a line does not end");
    const std::string_view line = bytes_.substr(at_, end - at_);
    at_ = end + 1;
    return line;
  }

  reference make(pickle_value value) {
    result_.values.push_back(std::move(value));
    return static_cast<reference>(result_.values.size() - 1);
  }

  void push(reference value) { stack_.push_back(value); }
  void push(pickle_value value) { push(make(std::move(value))); }
  void push_integer(int64_t value) { push(pickle_value{.type = kind::integer, .integer = value}); }
  void push_text(kind type, uint64_t bytes) { push(pickle_value{.type = type, .text = take(bytes)}); }

  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  reference top() const {
    if (stack_.size() <= floor()) fault("it takes a value from an empty stack");
    return stack_.back();
  }

  reference pop() {
    const reference value = top();
    stack_.pop_back();
    return value;
  }

  // Everything above the last mark.
  std::vector<reference> pop_to_mark() {
    if (marks_.empty()) fault("it looks for a mark that is not there");
    std::vector<reference> values(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return values;
  }

  void push_sequence(std::vector<reference> items) {
    push(pickle_value{.type = kind::sequence, .items = std::move(items)});
  }

  void push_dictionary(std::vector<reference> items) {
    if (items.size() % 2) fault("a dictionary's last key has no value");
    push(pickle_value{.type = kind::dictionary, .is_dictionary = true, .items = std::move(items)});
  }

  // The container that is filled next: the value on top.
  void fill(const std::vector<reference>& items, bool pairs) {
    pickle_value& container = result_.values[top()];
    const bool fits = container.type == kind::object || container.type == (pairs ? kind::dictionary : kind::sequence);
    if (!fits) fault("it fills what is no ", pairs ? "dictionary" : "list");
    if (pairs && items.size() % 2) fault("a dictionary's last key has no value");
    if (container.type == kind::object) {
      if (!container.items.empty() && container.is_dictionary != pairs) fault("it fills a value in two ways");
      container.is_dictionary = pairs;
    }
    container.items.insert(container.items.end(), items.begin(), items.end());
  }

  void push_global(std::string_view module, std::string_view name) {
    result_.texts.push_back(cat(module, " ", name));
    push(pickle_value{.type = kind::global, .text = result_.texts.back()});
  }

  void push_object(reference callable, reference arguments) {
    push(pickle_value{.type = kind::object, .callable = callable, .arguments = arguments});
  }

  void remember(uint64_t index) { memo_[index] = top(); }

  void recall(uint64_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fault("it recalls value ", index, ", which it never kept");
    push(found->second);
  }

  // A signed integer of up to 8 bytes; longer ones (random states have some) are no size or shape of anything.
  void push_long(uint64_t bytes) {
    const std::string_view digits = take(bytes);
    if (bytes > 8) return push(pickle_value{.type = kind::bytes, .text = digits});
    uint64_t value = 0;
    for (size_t i = digits.size(); i-- > 0;) value = value << 8 | static_cast<unsigned char>(digits[i]);
    if (bytes > 0 && bytes < 8 && (digits.back() & 0x80)) value |= ~uint64_t{0} << (8 * bytes);
    push_integer(static_cast<int64_t>(value));
  }

  void push_real() {
    uint64_t bits = 0;  // big-endian
    for (char c : take(8)) bits = bits << 8 | static_cast<unsigned char>(c);
    push(pickle_value{.type = kind::real, .real = std::bit_cast<double>(bits)});
  }

  // Performs one opcode; false at the end.
  bool step(char opcode) {
    opcode_at_ = at_ - 1;
    return step_scalar(opcode) || step_container(opcode) || step_object(opcode) || step_end(opcode);
  }

  bool step_scalar(char opcode) {
    switch (opcode) {
      case 'N':
        push(reference{0});
        return true;
      case '\x88':  // NEWTRUE
      case '\x89':  // NEWFALSE
        push(pickle_value{.type = kind::boolean, .integer = opcode == '\x88'});
        return true;
      case 'J':
        push_integer(static_cast<int32_t>(take_number(4)));
        return true;
      case 'K':
        push_integer(static_cast<int64_t>(take_number(1)));
        return true;
      case 'M':
        push_integer(static_cast<int64_t>(take_number(2)));
        return true;
      case '\x8a':  // LONG1
        push_long(take_number(1));
        return true;
      case '\x8b':  // LONG4
        push_long(take_number(4));
        return true;
      case 'G':
        push_real();
        return true;
      case 'X':
        push_text(kind::text, take_number(4));
        return true;
      case '\x8c':  // SHORT_BINUNICODE
        push_text(kind::text, take_number(1));
        return true;
      case '\x8d':  // BINUNICODE8
        push_text(kind::text, take_number(8));
        return true;
      case 'T':  // BINSTRING, of Python 2: text as well
      case 'B':
        push_text(opcode == 'T' ? kind::text : kind::bytes, take_number(4));
        return true;
      case 'U':
      case 'C':
        push_text(opcode == 'U' ? kind::text : kind::bytes, take_number(1));
        return true;
      case '\x8e':  // BINBYTES8
      case '\x96':  // BYTEARRAY8
        push_text(kind::bytes, take_number(8));
        return true;
      default:
        return false;
    }
  }

  bool step_container(char opcode) {
    switch (opcode) {
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case ']':
      case ')':
      case '\x8f':  // EMPTY_SET
        push_sequence({});
        return true;
      case '}':
        push_dictionary({});
        return true;
      case 'l':
      case 't':
      case '\x91':  // FROZENSET
        push_sequence(pop_to_mark());
        return true;
      case 'd':
        push_dictionary(pop_to_mark());
        return true;
      case '\x85':
      case '\x86':
      case '\x87': {  // TUPLE1, TUPLE2, TUPLE3
        std::vector<reference> items(static_cast<size_t>(opcode - '\x84'));
        for (size_t i = items.size(); i-- > 0;) items[i] = pop();
        push_sequence(std::move(items));
        return true;
      }
      case 'a': {
        const reference item = pop();
        fill({item}, false);
        return true;
      }
      case 'e':
      case '\x90':  // ADDITEMS
        fill(pop_to_mark(), false);
        return true;
      case 's': {
        const reference value = pop(), key = pop();
        fill({key, value}, true);
        return true;
      }
      case 'u':
        fill(pop_to_mark(), true);
        return true;
      default:
        return false;
    }
  }

  bool step_object(char opcode) {
    switch (opcode) {
      case 'c': {
        const std::string_view module = take_line(), name = take_line();
        push_global(module, name);
        return true;
      }
      case '\x93': {  // STACK_GLOBAL
        const pickle_value &name = result_[pop()], &module = result_[pop()];
        if (name.type != kind::text || module.type != kind::text) fault("a global's name is no text");
        push_global(module.text, name.text);
        return true;
      }
      case 'R':
      case '\x81': {  // NEWOBJ
        const reference arguments = pop(), callable = pop();
        push_object(callable, arguments);
        return true;
      }
      case '\x92': {  // NEWOBJ_EX: with keyword arguments, which nothing here reads
        pop();
        const reference arguments = pop(), callable = pop();
        push_object(callable, arguments);
        return true;
      }
      case 'b': {
        const reference state = pop();
        pickle_value& object = result_.values[top()];
        if (object.type != kind::object) fault("it sets the state of what is no object");
        object.state = state;
        return true;
      }
      case 'Q': {
        const reference id = pop();
        push(pickle_value{.type = kind::persistent, .items = {id}});
        return true;
      }
      default:
        return false;
    }
  }

  bool step_end(char opcode) {
    switch (opcode) {
      case '\x80':
        if (const uint64_t protocol = take_number(1); protocol < 2 || protocol > 5)
          fail(FT_ERROR_UNSUPPORTED, file_, ": pickle protocol ", protocol, " is not supported; 2 to 5 are");
        return true;
      case '\x95':  // FRAME: a length that only streams need
        take(8);
        return true;
      case '0':
        pop();
        return true;
      case '1':
        pop_to_mark();
        return true;
      case '2':
        push(top());
        return true;
      case 'q':
        remember(take_number(1));
        return true;
      case 'r':
        remember(take_number(4));
        return true;
      case '\x94':  // MEMOIZE
        remember(memo_.size());
        return true;
      case 'h':
        recall(take_number(1));
        return true;
      case 'j':
        recall(take_number(4));
        return true;
      case '.':
        result_.root = pop();
        return false;
      default:
        fail(FT_ERROR_UNSUPPORTED, file_, ": the pickle has at byte ", opcode_at_, " the opcode '",
             printable({&opcode, 1}), "', which torch.save does not write");
    }
  }

  std::string_view bytes_;
  const std::string& file_;
  size_t at_ = 0, opcode_at_ = 0;
  pickle result_;
  std::vector<reference> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  std::unordered_map<uint64_t, reference> memo_;
};

}  // namespace

const pickle_value* pickle::find(const pickle_value& dictionary, std::string_view key) const {
  if (!dictionary.is_dictionary) return nullptr;
  for (size_t i = dictionary.items.size(); i >= 2; i -= 2) {
    const pickle_value& name = values[dictionary.items[i - 2]];
    if (name.type == pickle_value::kind::text && name.text == key) return &values[dictionary.items[i - 1]];
  }
  return nullptr;
}

pickle read_pickle(std::string_view bytes, const std::string& file) { return pickle_machine(bytes, file).run(); }

}  // namespace ft::io
