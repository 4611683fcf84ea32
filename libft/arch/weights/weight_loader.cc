#include "arch/weights/weight_loader.h"

#include "core/status.h"
#include "ops/gguf_blocks.h"

namespace ft::arch {
namespace {

size_t view_bytes(const weight_view& view) { return bytes_of(view.type, view.rows * view.columns); }

}  // namespace

weight_loader::weight_loader(const weight_match& match, const build_options& options)
    : match_(match), options_(options) {
  for (const weight_match::entry& e : match.entries)
    if (e) total_bytes_ += view_bytes(view_of(e));
}

bool weight_loader::has(const std::string& name) const {
  const weight_match::entry* entry = match_.find(name);
  return entry && *entry;
}

const weight_match::entry& weight_loader::entry_of(const std::string& name) const {
  const weight_match::entry* entry = match_.find(name);
  if (!entry || !*entry) fail(FT_ERROR_INTERNAL, "the weight ", name, " is not in the table or the checkpoint");
  return *entry;
}

// Every weight passes through here, and through here only, on its way to the device.
weight_view weight_loader::view(const std::string& name) {
  weight_view view = view_of(entry_of(name));
  report(view_bytes(view));
  return view;
}

// Strided parts where the weight lies, if that is how it lies; else as a whole.
weight_loader::host_weight weight_loader::stacked(const weight_view& view) const {
  if (!view.stacked() || (is_quantised(view.type) && !options_.keep_quantised)) return whole(view);
  host_weight w;
  for (const weight_view::block& b : view.blocks) w.parts.push_back(b.elements);
  return w;
}

weight_loader::host_weight weight_loader::whole(const weight_view& view) const {
  host_weight w;
  tensor t = view.blocks.front().elements;
  if (view.blocks.size() > 1 || !t.contiguous()) {
    w.made = buffer(host_memory(), view_bytes(view));
    gather(view, w.made.data());
    t = tensor(w.made.data(), view.type, {view.rows, view.columns});
  }
  if (is_quantised(t.type) && !options_.keep_quantised) {
    buffer floats(host_memory(), static_cast<size_t>(t.size()) * sizeof(float));
    dequantise_row(t.type, t.data, t.size(), floats.as<float>());
    w.made = std::move(floats);
    t = tensor(w.made.data(), dtype::f32, {view.rows, view.columns});
  }
  w.parts = {t};
  return w;
}

// Weights that may not be quantised are computed on as they are when the others become int8.
std::shared_ptr<const packed_weight> weight_loader::pack(std::span<const tensor> parts, bool may_quantise) {
  const dtype compute = options_.compute == dtype::i8 && !may_quantise ? dtype::f32 : options_.compute;
  std::shared_ptr<const packed_weight> packed = options_.device.pack(parts, compute, options_.place());
  bytes_ += packed->bytes;
  return packed;
}

nn::linear weight_loader::linear(std::initializer_list<std::string> names) {
  std::vector<host_weight> hosts;
  std::vector<tensor> parts;
  bool may_quantise = true;
  for (const std::string& name : names) {
    hosts.push_back(stacked(view(name + ".weight")));
    parts.insert(parts.end(), hosts.back().parts.begin(), hosts.back().parts.end());
    may_quantise = may_quantise && entry_of(name + ".weight").spec->may_quantise;
  }
  std::vector<std::shared_ptr<const packed_weight>> weights;
  for (std::span<const tensor> rest = parts; !rest.empty();) {
    size_t count = 1;
    while (count < rest.size() && options_.device.can_pack_together(rest.first(count + 1))) ++count;
    weights.push_back(pack(rest.first(count), may_quantise));
    rest = rest.subspan(count);
  }
  return with_bias(std::move(weights), names);
}

nn::linear weight_loader::tied_linear(const nn::embedding& embedding, const std::string& bias_of) {
  return with_bias({embedding.packed}, {bias_of});
}

nn::norm weight_loader::norm(const std::string& name, const stack_config& config) {
  return {.weight = floats({name}, ".weight"),
          .bias = floats({name}, ".bias"),
          .epsilon = config.norm.epsilon,
          .weight_offset = config.norm.weight_offset,
          .kind = config.norm.kind};
}

nn::norm weight_loader::norm(const std::string& name, const stack_config& config, int64_t width) {
  nn::norm made = norm(name, config);
  if (!config.norm.weights) made.weight = constants(std::vector<float>(static_cast<size_t>(width), 1.0f));
  return made;
}

nn::embedding weight_loader::embedding(const std::string& name) {
  const host_weight host = whole(view(name + ".weight"));
  const int64_t first_row = entry_of(name + ".weight").spec->share_begin();
  if (!is_quantised(host.parts[0].type)) return {.table = upload(host.parts[0]), .first_row = first_row};
  return {.packed = pack(host.parts, true), .first_row = first_row};
}

nn::embedding weight_loader::shared_embedding(const std::string& name) {
  const host_weight host = stacked(view(name + ".weight"));
  return {.packed = pack(host.parts, true), .first_row = entry_of(name + ".weight").spec->share_begin()};
}

nn::rotary weight_loader::rotary(const rotary_config& config) {
  return {.inverse_frequency = constants(config.inverse_frequency),
          .attention_factor = config.attention_factor,
          .style = config.style};
}

nn::parameter weight_loader::constants(const std::vector<float>& values) {
  return upload(tensor(const_cast<float*>(values.data()), dtype::f32, {static_cast<int64_t>(values.size())}));
}

nn::parameter weight_loader::upload(const tensor& host) {
  nn::parameter p{buffer(options_.place(), bytes_of(host.type, host.size())), host};
  options_.device.upload(p.memory.data(), host.data, p.memory.bytes(), nullptr);
  p.view.data = p.memory.data();
  bytes_ += p.memory.bytes();
  return p;
}

std::vector<float> weight_loader::values(const std::string& name) {
  const weight_view view = this->view(name);
  const host_weight host = whole(view);
  const tensor& elements = host.parts[0];
  std::vector<float> values(static_cast<size_t>(elements.size()));
  dequantise_row(elements.type, elements.data, elements.size(), values.data());
  if (view.scale != 1)
    for (float& value : values) value *= view.scale;
  return values;
}

// The named vectors one after another in float32; null when the checkpoint lacks them.
// The vectors of all these names after each other; empty where the checkpoint has none of them.
std::vector<float> weight_loader::joined(std::initializer_list<std::string> names, const char* suffix) {
  std::vector<float> values;
  size_t present = 0;
  for (const std::string& name : names) {
    if (!has(name + suffix)) continue;
    ++present;
    const std::vector<float> vector = this->values(name + suffix);
    values.insert(values.end(), vector.begin(), vector.end());
  }
  FT_CHECK(present == 0 || present == names.size());
  return values;
}

nn::parameter weight_loader::floats(std::initializer_list<std::string> names, const char* suffix) {
  const std::vector<float> values = joined(names, suffix);
  return values.empty() ? nn::parameter() : constants(values);
}

nn::linear weight_loader::with_bias(std::vector<std::shared_ptr<const packed_weight>> weights,
                                    std::initializer_list<std::string> names) {
  const std::vector<float> values = joined(names, ".bias");
  if (values.empty()) return {std::move(weights), {}};
  const dtype type = options_.device.activation_type(options_.compute);
  nn::parameter rounded;
  if (type == dtype::f16 || type == dtype::bf16) {
    std::vector<uint16_t> halves(values.size());
    std::ranges::transform(values, halves.begin(), type == dtype::f16 ? f32_to_f16 : f32_to_bf16);
    rounded = upload(tensor(halves.data(), type, {static_cast<int64_t>(halves.size())}));
  }
  return {std::move(weights), constants(values), std::move(rounded)};
}

void weight_loader::report(size_t bytes) {
  const uint64_t done = done_bytes_ += bytes;
  if (options_.on_progress && std::this_thread::get_id() == owner_) options_.on_progress(done, total_bytes_);
}

}  // namespace ft::arch
