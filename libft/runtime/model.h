// A loaded model: its checkpoint, configuration, and the ranks that compute it. Shared by sessions.
#pragma once

#include <memory>
#include <string>

#include "arch/weights/placement.h"
#include "runtime/ranks/rank_group.h"
#include "runtime/worker/external_allocator.h"
#include "runtime/worker/worker.h"

namespace ft::runtime {

class thread_groups;

struct model_options {
  std::string device = "auto";  // or several, one a rank, with commas between them
  std::string dtype = "auto";
  int tensor_parallel = 1;  // where both are 1, or 0: as many as devices are given
  int pipeline_parallel = 1;
  int num_threads = 0;
  arch::progress on_progress;
  void* stream = nullptr;      // of the device, to queue the work on; null: one of the model's own
  caller_allocator allocator;  // without functions: the device's own memory
};

// Loads the share of a model for which `source` was opened.
std::unique_ptr<worker> load_worker(const io::checkpoint& source, placement where, int num_threads,
                                    const arch::compute_choice& choice, arch::progress on_progress = {},
                                    const peers& others = {});

class model {
 public:
  static std::shared_ptr<model> open(const std::string& source, const model_options& options);
  // Of ranks that are there already: `first` is rank 0, of whose checkpoint `source` is, `others` the ranks from 1 on.
  static std::shared_ptr<model> of_ranks(std::shared_ptr<const io::checkpoint> source,
                                         const arch::compute_choice& choice, std::unique_ptr<worker> first,
                                         std::vector<std::unique_ptr<rank>> others);

  const io::checkpoint& checkpoint() const { return *checkpoint_; }
  std::shared_ptr<const io::checkpoint> shared_checkpoint() const { return checkpoint_; }
  const arch::model_config& config() const { return config_; }
  rank_group& ranks() { return *ranks_; }
  // Rank 0's worker, in this process.
  worker& first() { return *first_; }
  const arch::network& network() const { return first_->network(); }
  executor& compute() { return first_->compute(); }
  uint64_t weight_bytes() const;                                  // over all ranks
  const std::string& dtype_name() const { return choice_.name; }  // what the weights lie in: "float32", "q4_1", "int8"

 private:
  model(std::shared_ptr<const io::checkpoint> source, const arch::compute_choice& choice, std::unique_ptr<worker> first,
        std::vector<std::unique_ptr<rank>> others);

  std::shared_ptr<thread_groups> speech_;  // null for one rank, and where a test has given the ranks; outlives them
  std::shared_ptr<const io::checkpoint> checkpoint_;
  arch::model_config config_;
  arch::compute_choice choice_;
  std::unique_ptr<worker> first_;
  std::unique_ptr<rank_group> ranks_;
};

}  // namespace ft::runtime
