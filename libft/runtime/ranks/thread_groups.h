// How ranks that are threads of one process speak: a group for the tensor ranks of each stage, and one for the stages
// of each tensor rank.
#pragma once

#include <memory>
#include <vector>

#include "comm/shared_memory.h"
#include "io/rank_share.h"
#include "runtime/worker/executor.h"

namespace ft::runtime {

class thread_groups {
 public:
  thread_groups(int tensor_parallel, int pipeline_parallel) {
    for (int stage = 0; stage < pipeline_parallel; ++stage)
      tensor_groups_.push_back(std::make_unique<shared_memory_group>(tensor_parallel));
    for (int r = 0; r < tensor_parallel; ++r)
      stage_groups_.push_back(std::make_unique<shared_memory_group>(pipeline_parallel));
  }

  // What the rank with this share speaks by.
  peers of(const io::rank_share& share) {
    peers p;
    if (share.tensor_parallel > 1) p.tensor_ranks = &tensor_group(share.pipeline_stage).rank(share.tensor_rank);
    if (share.pipeline_parallel > 1) p.stages = &stage_group(share.tensor_rank).rank(share.pipeline_stage);
    return p;
  }

  shared_memory_group& tensor_group(int stage) { return *tensor_groups_[static_cast<size_t>(stage)]; }
  shared_memory_group& stage_group(int tensor_rank) { return *stage_groups_[static_cast<size_t>(tensor_rank)]; }

 private:
  std::vector<std::unique_ptr<shared_memory_group>> tensor_groups_, stage_groups_;
};

}  // namespace ft::runtime
