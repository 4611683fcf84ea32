#include "arch/weights/placement.h"

#include "core/status.h"

namespace ft::arch {
namespace {

const weight_format* format_named(const std::string& name) {
  const std::optional<dtype> type = dtype_from_name(name);
  return type ? find_weight_format(*type) : nullptr;
}

// Norms are float32 in every file; the 16-bit floats say what the model was trained in.
dtype half_type_of(const io::checkpoint& source) {
  int64_t halves = 0, brains = 0;
  for (const io::stored_tensor& t : source.tensors()) {
    if (t.data.type == dtype::f16) halves += t.data.size();
    if (t.data.type == dtype::bf16) brains += t.data.size();
  }
  return brains > halves ? dtype::bf16 : dtype::f16;
}

dtype compute_named(const std::string& wanted) {
  if (wanted == "int8") return dtype::i8;
  const weight_format* format = format_named(wanted);
  if (format && format->is_float()) return format->data;
  fail(FT_ERROR_INVALID_ARGUMENT, "dtype '", wanted, "' is unknown; use auto, float32, bfloat16, float16 or int8");
}

// Keys and values are kept as exactly as the model computes.
dtype key_values_for(dtype compute) { return compute == dtype::bf16 || compute == dtype::f16 ? compute : dtype::f32; }

std::string text_of(const placed_bytes& bytes) {
  std::string text;
  for (const auto& [format, taken] : bytes.by_format)
    text += cat(text.empty() ? "" : ", ", (taken + (1 << 20) - 1) >> 20, " MiB in ", format);
  return text;
}

}  // namespace

compute_choice choose_compute(const std::string& wanted, const model_config& config, const io::checkpoint& source,
                              const backend& device) {
  const weight_format* stored = format_named(config.checkpoint_dtype);
  compute_choice choice;
  choice.keep_quantised = wanted == "auto";
  if (wanted != "auto")
    choice.compute = compute_named(wanted);
  else if (stored && stored->is_float())
    choice.compute = stored->data;
  else if (stored && !device.computes_on(*stored))
    choice.compute = half_type_of(source);
  choice.key_values = key_values_for(choice.compute);
  choice.name = name(choice.compute);
  if (wanted != "auto" || !stored) return choice;
  const weight_format& made = device.packed_format(*stored, choice.compute);
  choice.name = made.name;
  if (!made.is_float()) choice.key_values = dtype::f16;  // float32 would be more exact than its weights are
  return choice;
}

placed_bytes measure(const model_config& config, const weight_match& match, const build_options& options) {
  placed_bytes bytes;
  build_options measuring = options;
  measuring.measured = &bytes;
  family_named(config.family).build(config, match, measuring);
  return bytes;
}

void require_room(const model_config& config, const weight_match& match, const build_options& options) {
  const placed_bytes needed = measure(config, match, options);
  const size_t free = options.device.free_memory();
  if (needed.total > free)
    fail(FT_ERROR_OUT_OF_MEMORY, "the weights take ", (needed.total >> 20) + 1, " MiB on ", options.device.name(), " (",
         text_of(needed), "), which has ", free >> 20, " MiB free");
}

}  // namespace ft::arch
