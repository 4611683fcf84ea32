// The ranks of a model as threads of one process, on the CPU.
#pragma once

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "comm/shared_memory.h"
#include "io/rank_share.h"
#include "runtime/ranks/thread_groups.h"

namespace ft::test {

// One thread a rank of a model, with its communicators.
class thread_ranks {
 public:
  struct member {
    io::rank_share share;
    communicator* tensor_ranks = nullptr;  // null: one
    communicator* stages = nullptr;        // null: one

    bool is_last_stage() const { return share.pipeline_stage + 1 == share.pipeline_parallel; }
  };

  thread_ranks(int tensor_parallel, int pipeline_parallel)
      : tensor_(tensor_parallel), pipeline_(pipeline_parallel), groups_(tensor_parallel, pipeline_parallel) {
    for (int stage = 0; stage < pipeline_; ++stage)
      for (int rank = 0; rank < tensor_; ++rank) {
        const io::rank_share share{rank, tensor_, stage, pipeline_};
        const runtime::peers speak = groups_.of(share);
        members_.push_back({share, speak.tensor_ranks, speak.stages});
      }
  }

  const std::vector<member>& members() const { return members_; }
  shared_memory_group& tensor_group(int stage) { return groups_.tensor_group(stage); }
  shared_memory_group& stage_group(int tensor_rank) { return groups_.stage_group(tensor_rank); }

  // body(member, its number) on every rank at once; returns when all have ended, with each one's error. The groups can
  // be used again.
  template <class Body>
  std::vector<std::optional<error>> run(Body&& body) {
    std::vector<std::optional<error>> errors(members_.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < members_.size(); ++i)
      threads.emplace_back([&, i] {
        const member& m = members_[i];
        try {
          body(m, i);
          return;
        } catch (const error& e) {
          errors[i] = e;
        } catch (const std::bad_alloc&) {
          errors[i] = error(FT_ERROR_OUT_OF_MEMORY, "out of memory");
        } catch (const std::exception& e) {
          errors[i] = error(FT_ERROR_INTERNAL, e.what());
        }
        for (communicator* c : {m.tensor_ranks, m.stages})
          if (c) c->abort(errors[i]->code(), errors[i]->what());
      });
    for (std::thread& t : threads) t.join();
    for (int stage = 0; stage < pipeline_; ++stage) tensor_group(stage).rank(0).recover();
    for (int rank = 0; rank < tensor_; ++rank) stage_group(rank).rank(0).recover();
    return errors;
  }

 private:
  const int tensor_, pipeline_;
  runtime::thread_groups groups_;
  std::vector<member> members_;
};

}  // namespace ft::test
