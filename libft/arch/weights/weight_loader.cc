#include "arch/weights/weight_loader.h"

#include "core/status.h"

namespace ft::arch {
namespace {

// What stands for the memory of a weight that is only measured.
char not_placed;

}  // namespace

weight_loader::weight_loader(const weight_match& match, const build_options& options)
    : match_(match), options_(options) {
  for (const weight_match::entry& e : match.entries)
    if (e) total_bytes_ += view_of(e).bytes();
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
  report(view.bytes());
  return view;
}

// Strided parts where the weight lies, if that is how it lies; else as a whole.
weight_loader::host_weight weight_loader::stacked(const weight_view& view) const {
  if (!view.stacked()) return whole(view);
  host_weight w;
  for (const weight_view::block& b : view.blocks) w.parts.push_back(b.stored);
  return w;
}

weight_loader::host_weight weight_loader::whole(const weight_view& view) const {
  host_weight w;
  if (options_.measured) {
    w.parts = {laid_out(*view.format, &not_placed, view.rows, view.columns)};
  } else if (view.blocks.size() == 1 && view.blocks[0].stored.data.contiguous()) {
    w.parts = {view.blocks[0].stored};
  } else {
    w.made = buffer(host_memory(), view.bytes());
    w.parts = {gather(view, w.made.data())};
  }
  return w;
}

// The format that a part gets on the device. Weights that may not be quantised are computed on as they are when the
// others become int8.
const weight_format& weight_loader::made_of(const stored_weight& part, bool may_quantise) const {
  const dtype compute = options_.compute == dtype::i8 && !may_quantise ? dtype::f32 : options_.compute;
  return options_.device.packed_format(*part.format, compute, options_.keep_quantised);
}

std::shared_ptr<const packed_weight> weight_loader::pack(std::span<const stored_weight> parts,
                                                         const weight_format& made) {
  if (!options_.measured) {
    std::shared_ptr<const packed_weight> packed =
        options_.device.pack(parts, made, options_.place(), on_pool_ ? nullptr : options_.pool);
    bytes_ += packed->bytes;
    return packed;
  }
  int64_t rows = 0;
  for (const stored_weight& part : parts) rows += part.rows();
  count(made.name, bytes_of(made, rows, parts[0].columns()));
  return std::make_shared<packed_weight>(made, rows, parts[0].columns());
}

std::shared_ptr<const packed_bias> weight_loader::pack_bias(std::span<const float> values) {
  if (!options_.measured) {
    std::shared_ptr<const packed_bias> packed = options_.device.pack_bias(values, options_.compute, options_.place());
    bytes_ += packed->bytes;
    return packed;
  }
  const auto size = static_cast<int64_t>(values.size());
  count(name(dtype::f32), options_.device.bias_bytes(size, options_.compute));
  return std::make_shared<packed_bias>(size);
}

// Weights of one width that get one format lie together.
nn::linear weight_loader::linear(std::initializer_list<std::string> names) {
  std::vector<host_weight> hosts;
  std::vector<stored_weight> parts;
  bool may_quantise = true;
  for (const std::string& name : names) {
    hosts.push_back(stacked(view(name + ".weight")));
    parts.insert(parts.end(), hosts.back().parts.begin(), hosts.back().parts.end());
    may_quantise = may_quantise && entry_of(name + ".weight").spec->may_quantise;
  }
  std::vector<std::shared_ptr<const packed_weight>> weights;
  for (std::span<const stored_weight> rest = parts; !rest.empty();) {
    const weight_format& made = made_of(rest[0], may_quantise);
    size_t count = 1;
    while (count < rest.size() && rest[count].columns() == rest[0].columns() &&
           made_of(rest[count], may_quantise) == made)
      ++count;
    weights.push_back(pack(rest.first(count), made));
    rest = rest.subspan(count);
  }
  return with_bias(weights, names);
}

nn::linear weight_loader::tied_linear(const nn::embedding& embedding, const std::string& bias_of) {
  return with_bias({&embedding.packed, 1}, {bias_of});
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

// Rows are only looked up: what is expanded for that keeps its precision where matrices become int8.
nn::embedding weight_loader::embedding(const std::string& name) {
  const weight_view stored = view(name + ".weight");
  const int64_t first_row = entry_of(name + ".weight").spec->share_begin();
  if (stored.format->is_float()) return {.table = upload(whole(stored).parts[0].data), .first_row = first_row};
  const host_weight host = stacked(stored);
  return {.packed = pack(host.parts, made_of(host.parts[0], false)), .first_row = first_row};
}

nn::embedding weight_loader::shared_embedding(const std::string& name) {
  const host_weight host = stacked(view(name + ".weight"));
  return {.packed = pack(host.parts, made_of(host.parts[0], true)),
          .first_row = entry_of(name + ".weight").spec->share_begin()};
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
  nn::parameter p;
  p.view = host;
  const size_t bytes = bytes_of(host.type, host.size());
  if (options_.measured) {
    count(name(host.type), bytes);
    p.view.data = &not_placed;
    return p;
  }
  p.memory = buffer(options_.place(), bytes);
  options_.device.upload(p.memory.data(), host.data, bytes, nullptr);
  p.view.data = p.memory.data();
  bytes_ += bytes;
  return p;
}

std::vector<float> weight_loader::values(const std::string& name) {
  const weight_view view = this->view(name);
  std::vector<float> values(static_cast<size_t>(view.rows * view.columns));
  if (options_.measured) return values;
  const host_weight host = whole(view);
  for (int64_t row = 0; row < view.rows; ++row) host.parts[0].expand(row, values.data() + row * view.columns);
  if (view.scale != 1)
    for (float& value : values) value *= view.scale;
  return values;
}

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

nn::linear weight_loader::with_bias(std::span<const std::shared_ptr<const packed_weight>> weights,
                                    std::initializer_list<std::string> names) {
  const std::vector<float> values = joined(names, ".bias");
  std::vector<nn::weight_and_bias> parts;
  size_t begin = 0;
  for (const auto& weight : weights) {
    parts.push_back({.weight = weight});
    if (values.empty()) continue;
    const auto size = static_cast<size_t>(weight->out_features);
    FT_CHECK(begin + size <= values.size());
    parts.back().bias = pack_bias(std::span(values).subspan(begin, size));
    begin += size;
  }
  return nn::linear(std::move(parts));
}

void weight_loader::count(std::string_view format, size_t bytes) {
  options_.measured->by_format[format] += bytes;
  options_.measured->total += bytes;
  bytes_ += bytes;
}

void weight_loader::report(size_t bytes) {
  if (options_.measured) return;
  const uint64_t done = done_bytes_ += bytes;
  if (options_.on_progress && std::this_thread::get_id() == owner_) options_.on_progress(done, total_bytes_);
}

}  // namespace ft::arch
