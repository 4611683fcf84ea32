// The right to compute on a model's device: one pass at a time, with the pass's activations and scratch memory.
#pragma once

#include <memory>
#include <mutex>

#include "comm/communicator.h"
#include "core/arena.h"
#include "core/thread_pool.h"
#include "nn/run.h"
#include "ops/exec.h"

namespace ft::runtime {

// Where a model lies and computes.
struct placement {
  backend& device;
  std::shared_ptr<memory> from;  // the device's memory, or a caller's on it
  std::shared_ptr<void> stream;  // that its work is queued on; null where a device computes in the calling thread

  // The device's own memory, a stream of the model's own.
  static placement on(backend& device) {
    return {device, {std::shared_ptr<void>(), &device.device_memory()}, device.make_stream()};
  }
};

// What a rank says to the others with; null where it has no others.
struct peers {
  communicator* tensor_ranks = nullptr;
  communicator* stages = nullptr;

  // Of a pass that failed here: whoever waits for this rank fails too.
  void abort(ft_status code, const char* message) const noexcept {
    for (communicator* c : {tensor_ranks, stages})
      if (c) c->abort(code, message);
  }
  // When no rank is in a pass any more: one of each group makes it usable again.
  void recover() const {
    for (communicator* c : {tensor_ranks, stages})
      if (c && c->rank() == 0) c->recover();
  }
};

class executor {
 public:
  executor(backend& device, int num_threads) : executor(placement::on(device), num_threads) {}
  executor(placement where, int num_threads)
      : where_(std::move(where)), pool_(num_threads), activations_(*where_.from), scratch_(*where_.from) {}

  // Of the passes to come; set once the model is known.
  void set_activation_type(dtype type) { activation_type_ = type; }
  dtype activation_type() const { return activation_type_; }
  void set_peers(const peers& p) { peers_ = p; }
  const peers& others() const { return peers_; }

  backend& device() const { return where_.device; }
  const std::shared_ptr<memory>& device_memory() const { return where_.from; }
  void* stream() const { return where_.stream.get(); }
  int num_threads() const { return pool_.size(); }
  thread_pool& pool() { return pool_; }  // for loading, before passes run

  // Calls pass(nn::run&) when no other pass runs. What the pass allocated is given back when it returns; tensors it
  // leaves behind in `activations` are gone.
  template <class Pass>
  void compute(Pass&& pass, bool (*cancelled)(void*) = nullptr, void* cancel_data = nullptr) {
    std::lock_guard lock(mutex_);
    compute_locked(pass, cancelled, cancel_data, false);
  }

  // Takes the pass's memory and whatever else it needs, where the device rehearses, and computes nothing: when the same
  // pass is computed next, it lacks nothing. Returns whether memory of earlier passes has moved.
  template <class Pass>
  bool rehearse(Pass&& pass) {
    if (!device().rehearses()) return false;
    std::lock_guard lock(mutex_);
    const uint64_t before = activations_.version() + scratch_.version();
    compute_locked(pass, nullptr, nullptr, true);
    const thread_on_device here(device());
    activations_.reset();
    scratch_.reset();
    return activations_.version() + scratch_.version() != before;
  }

 private:
  template <class Pass>
  void compute_locked(Pass&& pass, bool (*cancelled)(void*), void* cancel_data, bool rehearses) {
    const thread_on_device here(device());
    activations_.reset();
    scratch_.reset();
    exec ex{device(), device().ops(), scratch_, &pool_, stream(), rehearses};
    nn::run run{ex, activations_, cancelled, cancel_data, activation_type_, peers_.tensor_ranks, peers_.stages};
    pass(run);
  }

  placement where_;
  dtype activation_type_ = dtype::f32;
  peers peers_;
  std::mutex mutex_;
  thread_pool pool_;
  arena activations_;
  arena scratch_;
};

// Copies host integers to where the pass can read them.
template <class Span>
tensor upload_i32(nn::run& run, const Span& values) {
  tensor t = run.activations.make(dtype::i32, {static_cast<int64_t>(values.size())});
  run.ex.upload(t.data, values.data(), values.size() * sizeof(int32_t));
  return t;
}

}  // namespace ft::runtime
