// A communicator between ranks that share memory and compute on the CPU: threads of one process.
//
// A group lies in one region, which holds no pointer: each rank publishes slices of what it gives in slots of its own,
// says so in a counter, and reads the others' when their counters say so, too. Slots come in pairs, so that a rank may
// write the next slice while others still read the last. Who waits looks again for a moment, then sleeps.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "core/memory.h"

namespace ft {

class shared_memory_group {
 public:
  // `slot_bytes`: of a slice, a multiple of 64; longer tensors go in several.
  explicit shared_memory_group(int size, size_t slot_bytes = size_t{256} << 10);
  ~shared_memory_group();
  shared_memory_group(const shared_memory_group&) = delete;
  shared_memory_group& operator=(const shared_memory_group&) = delete;

  communicator& rank(int r);

  // Operations that all ranks have ended, each counted once, on rank 0; of sends, those of all ranks.
  struct counts {
    int64_t sums = 0, gathers = 0, sends = 0, barriers = 0;
    bool operator==(const counts&) const = default;
  };
  counts done() const;

 private:
  struct layout;
  class member;
  std::unique_ptr<const layout> at_;
  buffer region_;
  std::vector<std::unique_ptr<member>> members_;
};

}  // namespace ft
