// The right to compute on a model's device: one pass at a time, with the pass's activations and scratch memory.
#pragma once

#include <mutex>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "nn/run.h"
#include "ops/exec.h"

namespace ft::runtime {

class executor {
 public:
  executor(backend& device, int num_threads)
      : device_(device),
        stream_(device.make_stream()),
        pool_(num_threads),
        activations_(device.device_memory()),
        scratch_(device.device_memory()) {}

  // Of the passes to come; set once the model is known.
  void set_activation_type(dtype type) { activation_type_ = type; }

  backend& device() const { return device_; }
  int num_threads() const { return pool_.size(); }
  thread_pool& pool() { return pool_; }  // for loading, before passes run

  // Calls pass(nn::run&) when no other pass runs. What the pass allocated is given back when it returns; tensors it
  // leaves behind in `activations` are gone.
  template <class Pass>
  void compute(Pass&& pass, bool (*cancelled)(void*) = nullptr, void* cancel_data = nullptr) {
    std::lock_guard lock(mutex_);
    activations_.reset();
    scratch_.reset();
    device_.bind_thread();
    exec ex{device_, device_.ops(), scratch_, &pool_, stream_.get()};
    nn::run run{ex, activations_, cancelled, cancel_data, activation_type_};
    pass(run);
  }

 private:
  backend& device_;
  std::shared_ptr<void> stream_;
  dtype activation_type_ = dtype::f32;
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
