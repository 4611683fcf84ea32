// Places a checkpoint's weights on a device, in the layout its kernels want, one tensor at a time: the host never holds
// a second copy of the model.
#pragma once

#include <atomic>
#include <initializer_list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "arch/family.h"
#include "arch/weights/weight_view.h"
#include "nn/embedding.h"
#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/rotary.h"

namespace ft::arch {

class weight_loader {
 public:
  weight_loader(const weight_match& match, const build_options& options);

  // Names are the weight table's, without ".weight" and ".bias". A norm or bias that the checkpoint lacks comes back
  // null; require_complete has seen to it that the others are there.
  nn::linear linear(std::initializer_list<std::string> names);
  nn::norm norm(const std::string& name, const stack_config& config);
  // The same, of `width` elements that are all kept as they are where the model's norms have no weights.
  nn::norm norm(const std::string& name, const stack_config& config, int64_t width);
  nn::embedding embedding(const std::string& name);         // its plain table, if it is stored in floats
  nn::embedding shared_embedding(const std::string& name);  // packed, for an output projection to share
  nn::rotary rotary(const rotary_config& config);
  nn::parameter constants(const std::vector<float>& values);  // that the configuration gives, not the checkpoint

  // For tables that are computed from weights: a weight's elements, by its full name, and the way to the device.
  std::vector<float> values(const std::string& name);
  nn::parameter upload(const tensor& host);

  // A projection onto the vocabulary by the embedding's own matrix; its bias by the name given, if there is one.
  nn::linear tied_linear(const nn::embedding& embedding, const std::string& bias_of = "");

  // Builds layers 0 .. count on all threads of the pool; body(layer) may use the functions above.
  template <class Body>
  void for_each_layer(int64_t count, Body&& body);

  uint64_t bytes() const { return bytes_; }  // on the device so far

 private:
  // A weight in host memory, as matrices stacked along the rows: in the mapped file or, when they had to be brought
  // together, in `made`.
  struct host_weight {
    std::vector<stored_weight> parts;
    buffer made;
  };
  bool has(const std::string& name) const;
  const weight_match::entry& entry_of(const std::string& name) const;
  weight_view view(const std::string& name);
  host_weight stacked(const weight_view& view) const;
  host_weight whole(const weight_view& view) const;  // one contiguous part
  const weight_format& made_of(const stored_weight& part, bool may_quantise) const;
  std::shared_ptr<const packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made);
  std::shared_ptr<const packed_bias> pack_bias(std::span<const float> values);
  nn::parameter floats(std::initializer_list<std::string> names, const char* suffix);
  std::vector<float> joined(std::initializer_list<std::string> names, const char* suffix);
  nn::linear with_bias(std::span<const std::shared_ptr<const packed_weight>> weights,
                       std::initializer_list<std::string> names);
  void report(size_t bytes);
  void count(std::string_view format, size_t bytes);

  const weight_match& match_;
  const build_options& options_;
  const std::thread::id owner_ = std::this_thread::get_id();  // progress is reported from this thread
  bool on_pool_ = false;                                      // its threads are busy with a layer each
  uint64_t total_bytes_ = 0;
  std::atomic<uint64_t> done_bytes_{0};
  std::atomic<uint64_t> bytes_{0};
};

template <class Body>
void weight_loader::for_each_layer(int64_t count, Body&& body) {
  if (!options_.pool || options_.measured) {
    for (int64_t layer = 0; layer < count; ++layer) body(layer);
    return;
  }
  on_pool_ = true;
  options_.pool->parallel_for_or_throw(count, body);
  on_pool_ = false;
}

}  // namespace ft::arch
