// What an operation gets beside its arguments: the device's op table, its queue of work, and scratch memory.
#pragma once

#include "core/arena.h"
#include "core/thread_pool.h"
#include "ops/backend.h"

namespace ft {

// Passed to every operation. One exec is used by one thread at a time.
//
// A device that rehearses (ops/backend.h) can be taken through a pass without computing it: operations take their
// memory, choose their algorithms and have their kernels loaded, as they will again when the pass is computed, and
// queue nothing. So whatever can fail has failed before anything runs.
struct exec {
  backend& device;
  const op_table& ops;
  arena& scratch;               // for the operation's own temporaries
  thread_pool* pool = nullptr;  // the CPU's; null elsewhere
  void* stream = nullptr;       // the GPU's; null on the CPU
  bool rehearses = false;       // queue nothing

  void upload(void* to, const void* from_host, size_t bytes) {
    if (!rehearses) device.upload(to, from_host, bytes, stream);
  }
  void download(void* to_host, const void* from, size_t bytes) {
    if (!rehearses) device.download(to_host, from, bytes, stream);
  }
  void download_later(void* to_host, const void* from, size_t bytes) {
    if (!rehearses) device.download_later(to_host, from, bytes, stream);
  }
  void copy(void* to, const void* from, size_t bytes) {
    if (!rehearses) device.copy(to, from, bytes, stream);
  }
  void clear(void* to, size_t bytes) {
    if (!rehearses) device.clear(to, bytes, stream);
  }
};

}  // namespace ft
