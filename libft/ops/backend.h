// What a device is: its memory and streams, copies to and from it, how it lays out weights, and its table of
// operations.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/status.h"
#include "ops/weight_format.h"

namespace ft {

struct op_table;
class thread_pool;

// A matrix laid out for the device's `linear` (and `embedding`) kernels: [out_features, in_features].
class packed_weight {
 public:
  packed_weight(const weight_format& format, int64_t out_features, int64_t in_features)
      : out_features(out_features), in_features(in_features), format(format) {}
  virtual ~packed_weight() = default;
  packed_weight(const packed_weight&) = delete;
  packed_weight& operator=(const packed_weight&) = delete;

  dtype type() const { return format.data; }

  const int64_t out_features, in_features;
  const weight_format& format;  // of its elements; how they lie is the backend's own affair
  size_t bytes = 0;             // held in memory
};

// The bias of a linear layer as the device's kernels want it: float32 and whatever a backend keeps beside.
class packed_bias {
 public:
  explicit packed_bias(int64_t size) : size(size) {}
  virtual ~packed_bias() = default;
  packed_bias(const packed_bias&) = delete;
  packed_bias& operator=(const packed_bias&) = delete;

  const int64_t size;
  size_t bytes = 0;  // held in memory
};

// How a page of keys and values is laid out is the backend's own affair; only its size is agreed on.
struct kv_layout {
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t page_tokens = 16;
  dtype type = dtype::f32;
};

// Work that was recorded from a stream: the same kernels on the same memory.
class recorded_work {
 public:
  virtual ~recorded_work() = default;
  virtual void replay(void* stream) = 0;  // queues it
};

// A point in a stream's work: it is reached when what had been queued there before has been done. Thread-safe.
class stream_point {
 public:
  virtual ~stream_point() = default;
  virtual void hold(void* stream) = 0;  // what is queued on this stream from now on comes after the point
  virtual void wait() = 0;              // returns when the point is reached
  virtual void move(void* stream) = 0;  // from now on the point is where this stream, of the same device, is now
};

// A matrix product whose algorithm was chosen by timing: its shape in words, and the microseconds before and after.
struct tuned_product {
  std::string name;
  double before_us = 0;
  double after_us = 0;
};

// The file that such choices are kept in (empty: none), and why it was ignored (empty: it was not).
struct tuning_state {
  std::string path;
  std::string problem;
};

// A device. One instance serves every model on it; all members are thread-safe.
class backend {
 public:
  virtual ~backend() = default;
  virtual std::string name() const = 0;  // "cpu", "cuda:0"
  virtual memory& device_memory() = 0;
  // Host memory that copies to and from the device are fastest in.
  virtual memory& transfer_memory() { return host_memory(); }
  virtual const op_table& ops() const = 0;

  virtual size_t free_memory() const = 0;  // bytes that could be allocated now

  // A queue for the work of one model at a time; null where a device computes in the calling thread.
  virtual std::shared_ptr<void> make_stream() { return nullptr; }

  // Where a stream's work is now. Null, for nothing to wait for, where a device computes in the calling thread.
  virtual std::shared_ptr<stream_point> mark(void* /*stream*/) { return nullptr; }

  // Returns when all work of the device, on whatever stream, has been done.
  virtual void synchronize() {}

  // What a thread does before and after it computes here: on some devices a thread has a current one, which the program
  // around us may rely on. leave_thread() gets what enter_thread() returned.
  virtual int enter_thread() { return 0; }
  virtual void leave_thread(int /*before*/) noexcept {}

  // Whether operations know exec::rehearses. Where a device computes in the calling thread, they do not.
  virtual bool rehearses() const { return false; }

  // Whether work on this stream can be recorded; then record() does, without running it: `work` queues it.
  virtual bool records(void* /*stream*/) const { return false; }
  virtual std::unique_ptr<recorded_work> record(void* /*stream*/, const std::function<void()>& /*work*/) {
    return nullptr;
  }

  // Copies bytes between host and device memory, in the order of the stream's other work. `from_host` may be reused
  // when upload returns; the bytes have arrived when download does.
  virtual void upload(void* to, const void* from_host, size_t bytes, void* stream) = 0;
  virtual void download(void* to_host, const void* from, size_t bytes, void* stream) = 0;
  // As download, but queued only, where there is a stream: the bytes have arrived, in transfer_memory(), when a later
  // point of the stream is reached.
  virtual void download_later(void* to_host, const void* from, size_t bytes, void* stream) = 0;
  // From one place in the device's memory to another, and zeros; queued only, where there is a stream.
  virtual void copy(void* to, const void* from, size_t bytes, void* stream) = 0;
  virtual void clear(void* to, size_t bytes, void* stream) = 0;

  // Whole rows are best taken through all layers in groups of about this many tokens.
  virtual int64_t tokens_per_pass() const = 0;

  // The dtype of the activations of a model that computes in `compute`.
  virtual dtype activation_type(dtype compute) const = 0;

  // Whether linear and embedding compute on weights of this format as they are.
  virtual bool computes_on(const weight_format& format) const = 0;

  // What a stored weight becomes here for a model that computes in `compute` (f32, bf16, f16, or i8 for dynamic int8):
  // floats what the model computes in; others stay what they are where there are kernels for them, if `keep`.
  const weight_format& packed_format(const weight_format& stored, dtype compute, bool keep = true) const {
    return keep && !stored.is_float() && computes_on(stored) ? stored : computed_format(compute);
  }

  // Lays out `parts` (host memory), stacked along the rows, as one weight of the format `made`: a float one or int8,
  // into which parts of any format are expanded and rounded, or the one that all of them have. Reads each part once and
  // keeps no reference to it. The weight lies in `from`. A pool, where one is given, is free to be worked on.
  virtual std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made,
                                              memory& from, thread_pool* pool = nullptr) = 0;
  std::unique_ptr<packed_weight> pack(const stored_weight& weight, dtype compute) {
    return pack({&weight, 1}, packed_format(*weight.format, compute), device_memory());
  }

  // A bias of a layer whose model computes in `compute`, and the bytes that one takes.
  virtual std::unique_ptr<packed_bias> pack_bias(std::span<const float> values, dtype compute, memory& from) = 0;
  virtual size_t bias_bytes(int64_t size, dtype /*compute*/) const { return static_cast<size_t>(size) * sizeof(float); }

  // Runs `passes`, timing the algorithms there are for each matrix product that it meets, and keeps the fastest for
  // this process and later ones.
  virtual std::vector<tuned_product> tune(const std::function<void()>& /*passes*/) {
    fail(FT_ERROR_UNSUPPORTED, "the device ", name(), " has nothing to tune; a GPU has");
  }
  virtual tuning_state tuning() { return {}; }

  // Bytes of one layer's page for keys, and as many again for values.
  virtual size_t kv_page_bytes(const kv_layout& layout) const = 0;
};

// The CPU's backend; always there.
backend& cpu_backend();

// While it lives, the calling thread computes on a device.
class thread_on_device {
 public:
  explicit thread_on_device(backend& device) : device_(device), before_(device.enter_thread()) {}
  ~thread_on_device() { device_.leave_thread(before_); }
  thread_on_device(const thread_on_device&) = delete;
  thread_on_device& operator=(const thread_on_device&) = delete;

 private:
  backend& device_;
  int before_;
};

}  // namespace ft
