// What the ranks that run one model together say to one another while they compute: sums of what each has computed,
// columns that each has some of, and what one stage of a pipeline hands to another.
//
// A communicator is one rank's end of a group of ranks. Code that computes holds a pointer to it, null where a model
// has one rank: then nothing is said, launched or copied.
//
// Order. All ranks of a group call the same operations in the same order on tensors of the same shape and dtype; of
// send and receive, each send has its receive. A rank that is alone in an operation waits for its peers: so what can
// fail on one rank alone is better done before a pass begins.
//
// Streams. Operations are queued on ex.stream, in the order of its other work, and hold what follows there until their
// result is there; what they read and write may not be freed or changed out of that order. Where a device computes in
// the calling thread, they return when they are done. Recorded work may contain them, if all ranks record the same.
//
// Rehearsals. While ex.rehearses, operations say nothing, wait for nobody, and return at once, with false; what they
// lack to be queued later, they take then.
//
// Threads. A communicator is used by one thread at a time, that which computes the pass; abort() is for any thread.
//
// Errors. An operation throws ft::error when the group was aborted, and when ranks are found to disagree on what they
// do. A rank that leaves a pass with an error, its own or a peer's, aborts every communicator that it has, so that
// whoever waits for it, or for someone who does, is told: nobody waits for a rank that has left.
#pragma once

#include <span>

#include "core/status.h"
#include "ops/exec.h"

namespace ft {

class communicator {
 public:
  virtual ~communicator() = default;
  virtual int rank() const = 0;  // 0 <= rank() < size()
  virtual int size() const = 0;
  virtual const char* transport() const = 0;  // what carries what is said, in words

  // x, contiguous f32, f16 or bf16, becomes the sum over the ranks: added in float32 in the order of the ranks and
  // rounded once, so that all have the same bits. Returns `stop` of rank 0, on all ranks: a decision to give up the
  // pass travels with the sum. Where the sum is only queued it is false on all; there, who would give up does so before
  // a pass is launched.
  virtual bool all_reduce(exec& ex, const tensor& x, bool stop) = 0;

  // out [rows, all] = the ranks' columns side by side: x [rows, mine] is this rank's, which go from offsets[rank()] to
  // offsets[rank() + 1]. offsets has size() + 1 elements, from 0 to `all`, the same on all ranks. x and out are
  // contiguous, of one dtype.
  virtual void all_gather(exec& ex, const tensor& x, const tensor& out, std::span<const int64_t> offsets) = 0;

  // x, contiguous, goes to the rank `to`, which receives a tensor of its shape and dtype from this one. May return
  // before it has arrived, or wait for the other rank to take it. receive returns the sender's `stop`, by the rule of
  // all_reduce.
  virtual void send(exec& ex, const tensor& x, int to, bool stop) = 0;
  virtual bool receive(exec& ex, const tensor& x, int from) = 0;

  // Returns, or lets the stream go on, when all ranks have come here.
  virtual void barrier(exec& ex) = 0;

  // From now on every operation of the group throws ft::error with this code and message, on all ranks, those that are
  // waiting in one too. Of several, the first counts. It allocates nothing: a long message is cut short.
  virtual void abort(ft_status code, const char* message) noexcept = 0;

  // Makes an aborted group usable again. To be called for one rank of it, when none is in a pass.
  virtual void recover() = 0;
};

}  // namespace ft
