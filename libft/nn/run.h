// What a network's pass needs: the device's ops, the arena its activations live in, and the cancel flag.
#pragma once

#include "core/arena.h"
#include "ops/exec.h"

namespace ft::nn {

struct run {
  exec& ex;
  arena& activations;
  bool (*cancelled)(void*) = nullptr;  // read between layers; may be null
  void* cancel_data = nullptr;
  dtype activation_type = dtype::f32;  // backend::activation_type

  // New activations.
  tensor make(std::initializer_list<int64_t> dims) { return activations.make(activation_type, dims); }

  // Throws ft::error (FT_ERROR_CANCELLED) when everyone waiting for this pass has given up.
  void check_cancelled() const {
    if (cancelled && cancelled(cancel_data)) fail(FT_ERROR_CANCELLED, "the pass was cancelled");
  }
};

}  // namespace ft::nn
