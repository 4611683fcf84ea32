// A device that computes beside the host, as a GPU does, out of the CPU: work is queued on streams, and done when
// somebody waits for it, or later; it can be recorded and rehearsed. What the host reads too early, or gives back too
// soon, is wrong here as it would be there. It counts what each pass asks of it.
#pragma once

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "check.h"
#include "ops/op_table.h"

namespace ft::test {

class queueing_device final : public backend {
 public:
  // What one pass, from entering the device to leaving it, has asked for.
  struct pass {
    int operations = 0, replays = 0, uploads = 0, downloads = 0, copies = 0;  // queued
    int waits = 0;                                                            // of the host, in the midst of the pass
    int allocations = 0;                                                      // of device and transfer memory
    int rehearsed = 0, recordings = 0;
    bool computes() const { return operations + replays + uploads + downloads + copies > 0; }
  };

  queueing_device() : memory_(*this) {
#define FT_QUEUE(op) \
  if (cpu_backend().ops().op) table_.op = queue<&op_table::op>;
    FT_QUEUE(activation)
    FT_QUEUE(gated_activation)
    FT_QUEUE(attention)
    FT_QUEUE(paged_attention)
    FT_QUEUE(add)
    FT_QUEUE(scale)
    FT_QUEUE(embedding)
    FT_QUEUE(embedding_sum)
    FT_QUEUE(kv_write)
    FT_QUEUE(rotary_kv_write)
    FT_QUEUE(kv_copy)
    FT_QUEUE(linear)
    FT_QUEUE(log_softmax)
    FT_QUEUE(argmax)
    FT_QUEUE(top_k)
    FT_QUEUE(sampling_threshold)
    FT_QUEUE(sample)
    FT_QUEUE(edit_logits)
    FT_QUEUE(choose_beams)
    FT_QUEUE(reorder_beams)
    FT_QUEUE(norm)
    FT_QUEUE(pool)
    FT_QUEUE(rotary_table)
    FT_QUEUE(rotary)
    FT_QUEUE(gather_rows)
#undef FT_QUEUE
  }

  // Those since the last call, without those that did nothing on the device.
  std::vector<pass> passes() {
    std::vector<pass> made;
    for (const pass& p : std::exchange(passes_, {}))
      if (p.computes()) made.push_back(p);
    return made;
  }
  // Of all passes, those that computed and took memory.
  int allocating_launches() const { return allocating_launches_; }
  int rehearsals() const { return rehearsals_; }
  // Memory is refused from now on, or not.
  void refuse(bool refuses) { refuses_ = refuses; }

  std::string name() const override { return "queueing"; }
  memory& device_memory() override { return memory_; }
  memory& transfer_memory() override { return memory_; }
  const op_table& ops() const override { return table_; }
  size_t free_memory() const override { return size_t{1} << 26; }

  std::shared_ptr<void> make_stream() override { return std::make_shared<stream>(); }
  std::shared_ptr<stream_point> mark(void* s) override { return std::make_shared<point>(*this, s); }
  void synchronize() override { CHECK(false); }

  int enter_thread() override {
    now_ = {};
    return 0;
  }
  void leave_thread(int) noexcept override {
    allocating_launches_ += now_.computes() && now_.allocations > 0;
    rehearsals_ += now_.rehearsed > 0;
    passes_.push_back(now_);
  }

  bool rehearses() const override { return true; }
  bool records(void*) const override { return true; }
  std::unique_ptr<recorded_work> record(void*, const std::function<void()>& work) override {
    auto r = std::make_unique<recording>(*this);
    recording_ = &r->calls;
    try {
      work();
    } catch (...) {
      recording_ = nullptr;
      throw;
    }
    recording_ = nullptr;
    ++now_.recordings;
    return r;
  }

  void upload(void* to, const void* from, size_t bytes, void* s) override {
    CHECK(!recording_);  // it would be the bytes of now
    const auto* first = static_cast<const char*>(from);
    queue_copy(s, now_.uploads,
               [to, held = std::vector<char>(first, first + bytes)] { std::memcpy(to, held.data(), held.size()); });
  }
  void download(void* to, const void* from, size_t bytes, void* s) override {
    CHECK(!recording_);
    download_later(to, from, bytes, s);
    ++now_.waits;
    if (s) static_cast<stream*>(s)->finish();
  }
  void download_later(void* to, const void* from, size_t bytes, void* s) override {
    queue_copy(s, now_.downloads, [=] { std::memcpy(to, from, bytes); });
  }
  void copy(void* to, const void* from, size_t bytes, void* s) override {
    queue_copy(s, now_.copies, [=] { std::memcpy(to, from, bytes); });
  }
  void clear(void* to, size_t bytes, void* s) override {
    queue_copy(s, now_.copies, [=] { std::memset(to, 0, bytes); });
  }

  int64_t tokens_per_pass() const override { return 64; }
  dtype activation_type(dtype compute) const override { return cpu_backend().activation_type(compute); }
  bool computes_on(const weight_format& format) const override { return cpu_backend().computes_on(format); }
  std::unique_ptr<packed_weight> pack(std::span<const stored_weight> parts, const weight_format& made, memory& from,
                                      thread_pool* pool) override {
    return cpu_backend().pack(parts, made, from, pool);
  }
  std::unique_ptr<packed_bias> pack_bias(std::span<const float> values, dtype compute, memory& from) override {
    return cpu_backend().pack_bias(values, compute, from);
  }
  size_t kv_page_bytes(const kv_layout& layout) const override { return cpu_backend().kv_page_bytes(layout); }

 private:
  using call = std::function<void()>;

  struct stream {
    std::mutex mutex;
    std::deque<call> waiting;
    uint64_t queued = 0, done = 0;

    void add(call c) {
      std::lock_guard lock(mutex);
      waiting.push_back(std::move(c));
      ++queued;
    }
    void run_to(uint64_t end) {
      std::lock_guard lock(mutex);
      for (; done < end; ++done) {
        waiting.front()();
        waiting.pop_front();
      }
    }
    void finish() { run_to(queued); }
    ~stream() { finish(); }
  };

  class point final : public stream_point {
   public:
    point(queueing_device& device, void* s) : device_(device) { move(s); }
    void hold(void*) override { wait(); }
    void wait() override {
      ++device_.now_.waits;
      stream_->run_to(at_);
    }
    void move(void* s) override {
      stream_ = static_cast<stream*>(s);
      at_ = stream_->queued;
    }

   private:
    queueing_device& device_;
    stream* stream_ = nullptr;
    uint64_t at_ = 0;
  };

  struct recording final : recorded_work {
    explicit recording(queueing_device& device) : of(device) {}
    queueing_device& of;
    std::vector<call> calls;
    void replay(void* s) override {
      ++of.now_.replays;
      static_cast<stream*>(s)->add([made = calls] {
        for (const call& c : made) c();
      });
    }
  };

  // Memory that is poisoned when it is taken and when it is given back, which waits for nothing, as on a GPU nothing
  // waits that is queued behind: it is freed with the device.
  class counted_memory final : public memory {
   public:
    explicit counted_memory(queueing_device& device) : device_(device) {}
    void* allocate(size_t bytes) override {
      if (device_.refuses_) throw std::bad_alloc();
      ++device_.now_.allocations;
      held_.emplace_back(host_memory(), bytes);
      std::memset(held_.back().data(), 0xff, bytes);
      return held_.back().data();
    }
    void deallocate(void*, size_t) noexcept override {}

   private:
    queueing_device& device_;
    std::deque<buffer> held_;
  };

  template <auto op, class Args>
  static void queue(exec& ex, const Args& args) {
    auto& device = static_cast<queueing_device&>(ex.device);
    const arena::scope scope(ex.scratch);
    ex.scratch.allocate(sizeof(Args) * 64);  // as its kernels might
    if (ex.rehearses) return void(++device.now_.rehearsed);
    device.queue_work(ex.stream, device.now_.operations, [args, &scratch = device.scratch_] {
      scratch.reset();
      exec on{cpu_backend(), cpu_backend().ops(), scratch};
      (on.ops.*op)(on, args);
    });
  }

  template <class Work>
  void queue_copy(void* s, int& count, Work&& work) {
    if (s) return queue_work(s, count, std::forward<Work>(work));
    work();  // outside of a pass
  }
  template <class Work>
  void queue_work(void* s, int& count, Work&& work) {
    if (recording_) return recording_->push_back(std::forward<Work>(work));
    ++count;
    static_cast<stream*>(s)->add(std::forward<Work>(work));
  }

  op_table table_;
  counted_memory memory_;
  arena scratch_{host_memory()};
  std::vector<call>* recording_ = nullptr;
  pass now_;
  std::vector<pass> passes_;
  int allocating_launches_ = 0, rehearsals_ = 0;
  std::atomic<bool> refuses_{false};
};

}  // namespace ft::test
