// What a network's pass needs: the device's ops, the arena its activations live in, the ranks that compute it together,
// and the way out when nobody wants its result any more.
#pragma once

#include "comm/communicator.h"
#include "core/arena.h"
#include "ops/exec.h"

namespace ft::nn {

struct run {
  exec& ex;
  arena& activations;
  bool (*cancelled)(void*) = nullptr;  // read between layers, by rank 0 alone; may be null
  void* cancel_data = nullptr;
  dtype activation_type = dtype::f32;  // backend::activation_type

  communicator* tensor_ranks = nullptr;  // those that have the other shares of this rank's layers; null: it has all
  communicator* stages = nullptr;        // those that have the layers before and behind; null: it has all

  // Rank 0's wish to give up, and what all ranks have agreed on: these two differ until a join has carried the wish.
  bool wants_stop = false;
  bool stop = false;

  // New activations.
  tensor make(std::initializer_list<int64_t> dims) { return activations.make(activation_type, dims); }

  int tensor_rank() const { return tensor_ranks ? tensor_ranks->rank() : 0; }
  int num_tensor_ranks() const { return tensor_ranks ? tensor_ranks->size() : 1; }
  int stage() const { return stages ? stages->rank() : 0; }
  int num_stages() const { return stages ? stages->size() : 1; }

  // What is added once to a sum over ranks: `x` on the one that adds it, else null.
  tensor added_once(const tensor& x) const { return tensor_rank() == 0 ? x : tensor(); }

  // x, of which each rank has computed a part, becomes the sum of the parts. Nothing on one rank.
  void join(const tensor& x) {
    if (tensor_ranks && tensor_ranks->all_reduce(ex, x, wants_stop)) stop = true;
  }

  // Hands x to the next stage, or takes it from the one before, with the decision to give up.
  void send(const tensor& x, int to) { stages->send(ex, x, to, stop); }
  void receive(const tensor& x, int from) {
    if (stages->receive(ex, x, from)) stop = true;
  }

  // Asked between layers: whether the pass is to end here, on every rank of the stage at the same layer.
  bool stops() {
    if (!wants_stop && cancelled && tensor_rank() == 0 && stage() == 0) wants_stop = cancelled(cancel_data);
    if (!tensor_ranks && wants_stop) stop = true;
    return stop;
  }

  // Throws ft::error (FT_ERROR_CANCELLED) when everyone waiting for this pass has given up.
  void leave_if_stopped() const {
    if (stop) fail(FT_ERROR_CANCELLED, "the pass was cancelled");
  }
};

}  // namespace ft::nn
