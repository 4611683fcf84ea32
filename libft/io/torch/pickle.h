// Python's pickle format, protocols 2 to 5, read as data: a graph of values. Nothing that a pickle asks to be called is
// called, no module is imported and no class built; such a value says what it asks for, and its reader decides what
// that means. torch.save writes its objects so, with tensors' storages beside them as persistent ids
// (io/torch/torch_file.h).
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace ft::io {

struct pickle_value {
  enum class kind : uint8_t {
    none,
    boolean,     // integer
    integer,     // integer
    real,        // real
    text,        // text, UTF-8
    bytes,       // text
    sequence,    // items: of a list, tuple or set
    dictionary,  // items: key, value, key, value, ...
    global,      // text: "module name", a class or function
    object,      // what `callable(*arguments)` would make; items as it was filled, like a list or dictionary
    persistent,  // items[0]: the id
  };
  using reference = uint32_t;  // of pickle::values

  kind type = kind::none;
  bool is_dictionary = false;  // items are pairs; of an object too
  int64_t integer = 0;
  double real = 0;
  std::string_view text;  // in the pickle, or in pickle::texts
  std::vector<reference> items;
  reference callable = 0, arguments = 0, state = 0;  // of an object; 0: none
};

// The values point at each other, and may do so in circles: whoever walks them must bound its depth and its steps.
struct pickle {
  std::vector<pickle_value> values;  // [0] is none
  std::deque<std::string> texts;     // of globals; they stay where they are
  pickle_value::reference root = 0;

  const pickle_value& operator[](pickle_value::reference at) const { return values[at]; }
  // The value under a text key; null when `dictionary` is none or has no such key. The last of several, as in Python.
  const pickle_value* find(const pickle_value& dictionary, std::string_view key) const;
};

// Reads one pickle at the beginning of `bytes`, which must outlive it. `file` is named in errors. Throws ft::error:
// FT_ERROR_CHECKPOINT for a damaged one, FT_ERROR_UNSUPPORTED for an opcode that no pickle of torch.save has.
pickle read_pickle(std::string_view bytes, const std::string& file);

}  // namespace ft::io
