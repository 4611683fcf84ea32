// A loaded model: its checkpoint, configuration, network and the executor that runs it. Shared by sessions.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "arch/weights/placement.h"
#include "runtime/executor.h"
#include "runtime/external_allocator.h"
#include "runtime/recorded_passes.h"

namespace ft::runtime {

struct model_options {
  std::string device = "auto";
  std::string dtype = "auto";
  int tensor_parallel = 1;
  int pipeline_parallel = 1;
  int num_threads = 0;
  arch::progress on_progress;
  void* stream = nullptr;      // of the device, to queue the work on; null: one of the model's own
  caller_allocator allocator;  // without functions: the device's own memory
};

// What the pass of the first stack over whole sequences depends on but for their tokens.
struct pass_shape {
  int64_t tokens = 0;
  int64_t rows = 0;
  std::optional<dtype> embeds;  // in the place of ids, where there are any
  bool type_ids = false;
  auto operator<=>(const pass_shape&) const = default;
};

class model {
 public:
  static std::shared_ptr<model> open(const std::string& source, const model_options& options);

  const io::checkpoint& checkpoint() const { return *checkpoint_; }
  std::shared_ptr<const io::checkpoint> shared_checkpoint() const { return checkpoint_; }
  const arch::model_config& config() const { return config_; }
  const arch::network& network() const { return *network_; }
  executor& compute() { return executor_; }
  // Of passes over whole sequences, to their last hidden states; to be used inside compute().
  recorded_passes<pass_shape, tensor>& recorded_forwards() { return recorded_forwards_; }
  dtype compute_dtype() const { return compute_.compute; }
  dtype kv_dtype() const { return compute_.key_values; }
  const std::string& dtype_name() const { return compute_.name; }  // what the weights lie in: "float32", "q4_1", "int8"

 private:
  model(std::shared_ptr<const io::checkpoint> source, placement where, const model_options& options);

  std::shared_ptr<const io::checkpoint> checkpoint_;
  arch::model_config config_;
  arch::compute_choice compute_;
  executor executor_;
  std::unique_ptr<arch::network> network_;
  recorded_passes<pass_shape, tensor> recorded_forwards_;
};

}  // namespace ft::runtime
