#include "arch/weight_table.h"

#include <span>
#include <unordered_set>

#include "core/status.h"

namespace ft::arch {
namespace {

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += cat(i ? ", " : "", shape[i]);
  return text + "]";
}

bool same_shape(const tensor& t, const std::vector<int64_t>& shape) {
  if (t.rank != static_cast<int>(shape.size())) return false;
  for (int i = 0; i < t.rank; ++i)
    if (t.shape[i] != shape[static_cast<size_t>(i)]) return false;
  return true;
}

bool usable(dtype type, const weight_spec& spec) {
  if (is_quantised(type)) return spec.may_quantise;
  return type == dtype::f32 || type == dtype::f16 || type == dtype::bf16;
}

// What is wrong with one entry, as a line of the message; empty when nothing is.
std::string fault_of(const weight_match::entry& entry) {
  const weight_spec& spec = *entry.spec;
  if (entry.foreign) return cat("\n  ", entry.foreign->name, ": ", entry.foreign->fault);
  if (!entry.stored) {
    if (!spec.required) return "";
    std::string line = cat("\n  ", spec.sources.front(), " ", shape_text(spec.shape), " is missing");
    for (size_t i = 1; i < spec.sources.size(); ++i)
      line += cat(i == 1 ? " (also looked for: " : ", ", spec.sources[i]);
    return spec.sources.size() > 1 ? line + ")" : line;
  }
  const io::stored_tensor& stored = *entry.stored;
  std::string line;
  if (!same_shape(stored.data, spec.shape))
    line += cat("\n  ", stored.name, " has shape ",
                shape_text(std::span(stored.data.shape).first(static_cast<size_t>(stored.data.rank))), ", expected ",
                shape_text(spec.shape));
  if (!usable(stored.data.type, spec))
    line += cat("\n  ", stored.name, " is ", name(stored.data.type), ", expected float32, float16",
                spec.may_quantise ? ", bfloat16 or a quantised type" : " or bfloat16");
  return line;
}

}  // namespace

const weight_match::entry* weight_match::find(std::string_view name) const {
  for (const entry& e : entries)
    if (e.spec->name == name) return &e;
  return nullptr;
}

weight_match match(const weight_table& table, const io::checkpoint& source) {
  weight_match result;
  std::unordered_set<const void*> used;
  result.entries.reserve(table.size());
  for (const weight_spec& spec : table) {
    weight_match::entry entry{&spec, nullptr};
    for (size_t i = 0; i < spec.sources.size() && !entry.stored && !entry.foreign; ++i) {
      entry.stored = source.find(spec.sources[i]);
      entry.foreign = source.find_foreign(spec.sources[i]);
    }
    used.insert(entry.stored);
    used.insert(entry.foreign);
    result.entries.push_back(entry);
  }
  for (const io::stored_tensor& stored : source.tensors())
    if (!used.contains(&stored)) result.unused.push_back(&stored);
  for (const io::foreign_tensor& foreign : source.foreign_tensors())
    if (!used.contains(&foreign)) result.unused_foreign.push_back(&foreign);
  return result;
}

void require_complete(const weight_match& match, const io::checkpoint& source) {
  constexpr size_t most_lines = 60;  // all of a real mistake; not the 10,000 layers of a lying configuration
  std::string faults;
  size_t count = 0;
  ft_status status = FT_ERROR_UNSUPPORTED;
  for (const weight_match::entry& entry : match.entries) {
    const std::string fault = fault_of(entry);
    if (fault.empty()) continue;
    if (!entry.foreign) status = FT_ERROR_CHECKPOINT;
    if (count < most_lines) faults += fault;
    ++count;
  }
  if (count > most_lines) faults += cat("\n  and ", count - most_lines, " more");
  if (count)
    fail(status, source.source(), ": ", count, count == 1 ? " tensor does" : " tensors do", " not fit ",
         status == FT_ERROR_UNSUPPORTED ? "what libft supports:" : "the configuration:", faults);
}

}  // namespace ft::arch
