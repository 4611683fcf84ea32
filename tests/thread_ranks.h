// The ranks of a model as threads of one process, on the CPU: what sharding needs of the library, without a device or
// another process. Who waits sleeps; whoever fails wakes the others, and a call that all have come to is finished by
// all, so that nobody reads what another has left.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "core/dtype.h"
#include "io/rank_share.h"
#include "ops/gguf_blocks.h"

namespace ft::test {

class thread_group {
 public:
  explicit thread_group(int size)
      : size_(size), calls_(static_cast<size_t>(size)), boxes_(static_cast<size_t>(size * size)) {
    for (int r = 0; r < size; ++r) ends_.emplace_back(new end(*this, r));
  }

  communicator& rank(int r) { return *ends_[static_cast<size_t>(r)]; }

  // What the group has done so far; each counts once, not once a rank.
  struct counts {
    int sums = 0, gathers = 0, sends = 0, barriers = 0;
    bool operator==(const counts&) const = default;
  };
  counts done() {
    std::lock_guard lock(mutex_);
    return done_;
  }

 private:
  enum class kind : uint8_t { sum, gather, barrier };
  struct call {
    kind what = kind::barrier;
    tensor x, out;
    bool stop = false;
  };
  struct box {  // from one rank to another
    tensor x;
    bool stop = false, full = false;
  };
  using lock_type = std::unique_lock<std::mutex>;

  class end final : public communicator {
   public:
    end(thread_group& g, int rank) : group_(g), rank_(rank) {}
    int rank() const override { return rank_; }
    int size() const override { return group_.size_; }
    bool all_reduce(exec&, const tensor& x, bool stop) override { return group_.sum(rank_, x, stop); }
    void all_gather(exec&, const tensor& x, const tensor& out, std::span<const int64_t> offsets) override {
      group_.gather(rank_, x, out, offsets);
    }
    void send(exec&, const tensor& x, int to, bool stop) override { group_.send(rank_, x, to, stop); }
    bool receive(exec&, const tensor& x, int from) override { return group_.receive(rank_, x, from); }
    void barrier(exec&) override {
      group_.arrive(rank_, {});
      group_.leave();
    }
    void abort(ft_status code, const char* message) noexcept override { group_.abort(code, message); }
    void recover() override { group_.recover(); }

   private:
    thread_group& group_;
    const int rank_;
  };

  // Waits for all; throws if the group was aborted before all had come.
  void arrive(int rank, const call& c) {
    lock_type lock(mutex_);
    throw_if_aborted();
    calls_[static_cast<size_t>(rank)] = c;
    if (++inside_ == size_) {
      check_agreement();
      count(c.what);
      next_round();
      return;
    }
    const uint64_t round = round_;
    changed_.wait(lock, [&] { return round_ != round || aborted_; });
    if (round_ == round) throw_if_aborted();
  }

  // Waits until all are done with what they found in calls_; they are sure to be.
  void leave() {
    lock_type lock(mutex_);
    if (++inside_ == size_) return next_round();
    const uint64_t round = round_;
    changed_.wait(lock, [&] { return round_ != round; });
  }

  void next_round() {
    inside_ = 0;
    ++round_;
    changed_.notify_all();
  }

  void check_agreement() {
    const call& first = calls_[0];
    for (const call& c : calls_)
      if (c.what != first.what || c.x.type != first.x.type || (c.what == kind::sum && c.x.size() != first.x.size()) ||
          c.out.size() != first.out.size()) {
        abort_locked(FT_ERROR_INTERNAL, "the ranks do not do the same");
        throw_if_aborted();
      }
  }

  void count(kind what) {
    if (what == kind::sum) ++done_.sums;
    if (what == kind::gather) ++done_.gathers;
    if (what == kind::barrier) ++done_.barriers;
  }

  // Each rank makes a part of the sum, and puts it where all will look for it.
  bool sum(int rank, const tensor& x, bool stop) {
    FT_CHECK(x.contiguous());
    arrive(rank, {kind::sum, x, {}, stop});
    const int64_t begin = x.size() * rank / size_, end = x.size() * (rank + 1) / size_;
    for (int64_t i = begin; i < end; ++i) {
      float total = read(calls_[0].x, i);
      for (size_t r = 1; r < calls_.size(); ++r) total += read(calls_[r].x, i);
      for (const call& c : calls_) write(c.x, i, total);
    }
    const bool stops = calls_[0].stop;
    leave();
    return stops;
  }

  void gather(int rank, const tensor& x, const tensor& out, std::span<const int64_t> offsets) {
    FT_CHECK(x.contiguous() && out.contiguous() && x.type == out.type && offsets.size() == calls_.size() + 1 &&
             offsets.back() == out.dim(1) &&
             offsets[static_cast<size_t>(rank) + 1] - offsets[static_cast<size_t>(rank)] == x.dim(1));
    arrive(rank, {kind::gather, x, out});
    const size_t element = bytes_of(x.type, 1);
    for (size_t r = 0; r < calls_.size(); ++r) {
      const tensor& from = calls_[r].x;
      const size_t bytes = static_cast<size_t>(from.dim(1)) * element;
      for (int64_t row = 0; row < out.dim(0); ++row)
        std::memcpy(out.as<char>() + static_cast<size_t>(row * out.dim(1) + offsets[r]) * element,
                    from.as<char>() + static_cast<size_t>(row) * bytes, bytes);
    }
    leave();
  }

  box& box_of(int from, int to) { return boxes_[static_cast<size_t>(from * size_ + to)]; }

  void send(int rank, const tensor& x, int to, bool stop) {
    FT_CHECK(x.contiguous() && 0 <= to && to < size_ && to != rank);
    lock_type lock(mutex_);
    throw_if_aborted();
    box& b = box_of(rank, to);
    b = {x, stop, true};
    changed_.notify_all();
    changed_.wait(lock, [&] { return !b.full || aborted_; });
    if (b.full) throw_if_aborted();
  }

  bool receive(int rank, const tensor& x, int from) {
    FT_CHECK(x.contiguous() && 0 <= from && from < size_ && from != rank);
    lock_type lock(mutex_);
    box& b = box_of(from, rank);
    changed_.wait(lock, [&] { return b.full || aborted_; });
    throw_if_aborted();
    if (b.x.size() != x.size() || b.x.type != x.type) {
      abort_locked(FT_ERROR_INTERNAL, "what was sent is not what is to be received");
      throw_if_aborted();
    }
    std::memcpy(x.data, b.x.data, bytes_of(x.type, x.size()));  // the sender waits for the lock meanwhile
    b.full = false;
    ++done_.sends;
    changed_.notify_all();
    return b.stop;
  }

  void abort(ft_status code, const char* message) noexcept {
    std::lock_guard lock(mutex_);
    abort_locked(code, message);
  }

  void abort_locked(ft_status code, const char* message) noexcept {
    if (aborted_) return;
    aborted_ = true;
    code_ = code;
    std::strncpy(message_, message, sizeof message_ - 1);
    changed_.notify_all();
  }

  void throw_if_aborted() {
    if (aborted_) throw error(code_, message_);
  }

  void recover() {
    std::lock_guard lock(mutex_);
    aborted_ = false;
    inside_ = 0;
    std::ranges::fill(boxes_, box{});
  }

  static float read(const tensor& t, int64_t i) {
    if (t.type == dtype::f16) return f16_to_f32(t.as<uint16_t>()[i]);
    if (t.type == dtype::bf16) return bf16_to_f32(t.as<uint16_t>()[i]);
    return t.as<float>()[i];
  }
  static void write(const tensor& t, int64_t i, float value) {
    if (t.type == dtype::f16)
      t.as<uint16_t>()[i] = f32_to_f16(value);
    else if (t.type == dtype::bf16)
      t.as<uint16_t>()[i] = f32_to_bf16(value);
    else
      t.as<float>()[i] = value;
  }

  const int size_;
  std::vector<std::unique_ptr<end>> ends_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<call> calls_;  // of each rank; to be read between arrive() and leave()
  std::vector<box> boxes_;
  int inside_ = 0;
  uint64_t round_ = 0;
  counts done_;
  bool aborted_ = false;
  ft_status code_ = FT_OK;
  char message_[256] = {};
};

// One thread a rank of a model, with its communicators.
class thread_ranks {
 public:
  struct member {
    io::rank_share share;
    communicator* tensor_ranks = nullptr;  // null: one
    communicator* stages = nullptr;        // null: one

    bool is_last_stage() const { return share.pipeline_stage + 1 == share.pipeline_parallel; }
  };

  thread_ranks(int tensor_parallel, int pipeline_parallel) : tensor_(tensor_parallel), pipeline_(pipeline_parallel) {
    for (int stage = 0; stage < pipeline_; ++stage) tensor_groups_.emplace_back(new thread_group(tensor_));
    for (int rank = 0; rank < tensor_; ++rank) stage_groups_.emplace_back(new thread_group(pipeline_));
    for (int stage = 0; stage < pipeline_; ++stage)
      for (int rank = 0; rank < tensor_; ++rank)
        members_.push_back({{rank, tensor_, stage, pipeline_},
                            tensor_ > 1 ? &tensor_groups_[static_cast<size_t>(stage)]->rank(rank) : nullptr,
                            pipeline_ > 1 ? &stage_groups_[static_cast<size_t>(rank)]->rank(stage) : nullptr});
  }

  const std::vector<member>& members() const { return members_; }
  thread_group& tensor_group(int stage) { return *tensor_groups_[static_cast<size_t>(stage)]; }
  thread_group& stage_group(int tensor_rank) { return *stage_groups_[static_cast<size_t>(tensor_rank)]; }

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
    for (auto* groups : {&tensor_groups_, &stage_groups_})
      for (const auto& group : *groups) group->rank(0).recover();
    return errors;
  }

 private:
  const int tensor_, pipeline_;
  std::vector<std::unique_ptr<thread_group>> tensor_groups_, stage_groups_;
  std::vector<member> members_;
};

}  // namespace ft::test
