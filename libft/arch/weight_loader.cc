#include "arch/weight_loader.h"

#include <unordered_set>
#include <vector>

#include "core/status.h"
#include "ops/gguf_blocks.h"

namespace ft::arch {
namespace {

size_t stored_bytes(const tensor& t) { return bytes_of(t.type, t.size()); }

}  // namespace

weight_loader::weight_loader(const weight_match& match, const build_options& options)
    : match_(match), options_(options) {
  std::unordered_set<const io::stored_tensor*> counted;
  for (const weight_match::entry& e : match.entries)
    if (e.stored && counted.insert(e.stored).second) total_bytes_ += stored_bytes(e.stored->data);
}

bool weight_loader::has(const std::string& name) const {
  const weight_match::entry* entry = match_.find(name);
  return entry && entry->stored;
}

const weight_match::entry& weight_loader::entry_of(const std::string& name) const {
  const weight_match::entry* entry = match_.find(name);
  if (!entry || !entry->stored) fail(FT_ERROR_INTERNAL, "the weight ", name, " is not in the table or the checkpoint");
  return *entry;
}

// Every weight passes through here, and through here only, on its way to the device: this is where a rank's slice along
// spec.shard is cut when a model is split over several.
weight_loader::host_weight weight_loader::rank_slice(const std::string& name) {
  const weight_match::entry& entry = entry_of(name);
  report(stored_bytes(entry.stored->data));
  const tensor& stored = entry.stored->data;
  if (is_quantised(stored.type) && !options_.keep_quantised) return dequantised(stored);
  return {stored, {}};
}

weight_loader::host_weight weight_loader::dequantised(const tensor& stored) const {
  host_weight w{stored, buffer(host_memory(), static_cast<size_t>(stored.size()) * sizeof(float))};
  dequantise_row(stored.type, stored.data, stored.size(), w.converted.as<float>());
  FT_CHECK(stored.rank == 2);
  w.view = tensor(w.converted.data(), dtype::f32, {stored.dim(0), stored.dim(1)});
  return w;
}

// Weights that may not be quantised are computed on as they are when the others become int8.
std::shared_ptr<const packed_weight> weight_loader::pack(std::span<const tensor> parts, bool may_quantise) {
  const dtype compute = options_.compute == dtype::i8 && !may_quantise ? dtype::f32 : options_.compute;
  std::shared_ptr<const packed_weight> packed = options_.device.pack(parts, compute);
  bytes_ += packed->bytes;
  return packed;
}

nn::linear weight_loader::linear(std::initializer_list<std::string> names) {
  std::vector<host_weight> hosts;
  std::vector<tensor> parts;
  bool may_quantise = true;
  for (const std::string& name : names) {
    hosts.push_back(rank_slice(name + ".weight"));
    parts.push_back(hosts.back().view);
    may_quantise = may_quantise && entry_of(name + ".weight").spec->may_quantise;
  }
  std::vector<std::shared_ptr<const packed_weight>> weights;
  for (std::span<const tensor> rest = parts; !rest.empty();) {
    size_t count = 1;
    while (count < rest.size() && options_.device.can_pack_together(rest.first(count + 1))) ++count;
    weights.push_back(pack(rest.first(count), may_quantise));
    rest = rest.subspan(count);
  }
  return {std::move(weights), floats(names, ".bias")};
}

nn::linear weight_loader::tied_linear(const nn::embedding& embedding, const std::string& bias_of) {
  return {{embedding.packed}, floats({bias_of}, ".bias")};
}

nn::norm weight_loader::norm(const std::string& name, const model_config& config) {
  return {.weight = floats({name}, ".weight"),
          .bias = floats({name}, ".bias"),
          .epsilon = config.norm_epsilon,
          .weight_offset = config.norm_weight_offset,
          .kind = config.norm};
}

nn::embedding weight_loader::embedding(const std::string& name) {
  const host_weight host = rank_slice(name + ".weight");
  if (!is_quantised(host.view.type)) return {.table = upload(host.view)};
  return {.packed = pack({&host.view, 1}, true)};
}

nn::embedding weight_loader::shared_embedding(const std::string& name) {
  const host_weight host = rank_slice(name + ".weight");
  return {.packed = pack({&host.view, 1}, true)};
}

nn::rotary weight_loader::rotary(const rotary_config& config) {
  const auto count = static_cast<int64_t>(config.inverse_frequency.size());
  const tensor host(const_cast<float*>(config.inverse_frequency.data()), dtype::f32, {count});
  return {.inverse_frequency = upload(host), .attention_factor = config.attention_factor, .style = config.style};
}

nn::parameter weight_loader::upload(const tensor& host) {
  nn::parameter p{buffer(options_.device.device_memory(), stored_bytes(host)), host};
  options_.device.upload(p.memory.data(), host.data, p.memory.bytes());
  p.view.data = p.memory.data();
  bytes_ += p.memory.bytes();
  return p;
}

// The named vectors one after another in float32; null when the checkpoint lacks them.
nn::parameter weight_loader::floats(std::initializer_list<std::string> names, const char* suffix) {
  std::vector<float> values;
  size_t present = 0;
  for (const std::string& name : names) {
    if (!has(name + suffix)) continue;
    ++present;
    const tensor host = rank_slice(name + suffix).view;
    const size_t begin = values.size();
    values.resize(begin + static_cast<size_t>(host.size()));
    dequantise_row(host.type, host.data, host.size(), values.data() + begin);
  }
  if (!present) return {};
  FT_CHECK(present == names.size());
  return upload(tensor(values.data(), dtype::f32, {static_cast<int64_t>(values.size())}));
}

void weight_loader::report(size_t bytes) {
  const uint64_t done = done_bytes_ += bytes;
  if (options_.on_progress && std::this_thread::get_id() == owner_) options_.on_progress(done, total_bytes_);
}

}  // namespace ft::arch
