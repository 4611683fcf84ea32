#include "comm/shared_memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <new>

#include "core/dtype.h"
#include "core/wait_point.h"
#include "ops/gguf_blocks.h"

namespace ft {
namespace {

constexpr int pair_of_slots = 2;

enum class kind : uint32_t { none, sum, gather, barrier, send };

// What a rank does, for the others to compare with what they do.
struct intent {
  kind what = kind::none;
  uint32_t type = 0;
  int64_t elements = 0;  // of all ranks together
  bool operator==(const intent&) const = default;
};

// A rank's end of the collective operations, on lines of its own.
struct alignas(64) turn_state {
  std::atomic<uint64_t> turn;                 // of slices, the number that this rank has published
  std::array<intent, pair_of_slots> intents;  // of the slices that lie in its slots
  std::array<uint32_t, pair_of_slots> stop;
};

// From one rank to another.
struct alignas(64) box_state {
  std::atomic<uint64_t> sent, taken;  // slices
  std::array<intent, pair_of_slots> intents;
  std::array<uint32_t, pair_of_slots> stop;
};

enum abort_state : uint32_t { running, being_aborted, aborted };

struct alignas(64) group_state {
  wait_point changed;                // where all of the group wait
  std::atomic<uint32_t> abort;       // abort_state
  std::atomic<uint32_t> generation;  // grows when the group is made usable again
  int32_t code;
  char message[256];
};

float read_float(dtype type, const void* data, int64_t i) {
  if (type == dtype::f16) return f16_to_f32(static_cast<const uint16_t*>(data)[i]);
  return bf16_to_f32(static_cast<const uint16_t*>(data)[i]);
}

void write_float(dtype type, void* data, int64_t i, float value) {
  static_cast<uint16_t*>(data)[i] = type == dtype::f16 ? f32_to_f16(value) : f32_to_bf16(value);
}

}  // namespace

struct shared_memory_group::layout {
  int size;
  size_t slot_bytes;

  size_t turns_at() const { return sizeof(group_state); }
  size_t boxes_at() const { return turns_at() + sizeof(turn_state) * num_ranks(); }
  size_t turn_slots_at() const { return boxes_at() + sizeof(box_state) * num_ranks() * num_ranks(); }
  size_t box_slots_at() const { return turn_slots_at() + slot_bytes * pair_of_slots * num_ranks(); }
  size_t bytes() const { return box_slots_at() + slot_bytes * pair_of_slots * num_ranks() * num_ranks(); }
  size_t num_ranks() const { return static_cast<size_t>(size); }
};

class shared_memory_group::member final : public communicator {
 public:
  member(const layout& at, char* region, int rank) : at_(at), region_(region), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return at_.size; }
  const char* transport() const override { return "shared memory"; }

  bool all_reduce(exec& ex, const tensor& x, bool stop) override {
    FT_CHECK(x.contiguous() && (x.type == dtype::f32 || x.type == dtype::f16 || x.type == dtype::bf16));
    if (ex.rehearses) return false;
    const auto element = static_cast<int64_t>(bytes_of(x.type, 1));
    const int64_t most = static_cast<int64_t>(at_.slot_bytes) / element, all = x.size();
    bool stops = false;
    for (int64_t begin = 0; begin == 0 || begin < all; begin += most) {
      char* own = x.as<char>() + begin * element;
      const int64_t count = std::min(most, all - begin);
      const size_t bytes = bytes_of(x.type, count);
      std::memcpy(next_slot(), own, bytes);
      take_turn({kind::sum, static_cast<uint32_t>(x.type), all}, stop);
      if (begin == 0) stops = stop_of(0);
      sum(x.type, own, count);
    }
    done_.sums += rank_ == 0;
    return stops;
  }

  void all_gather(exec& ex, const tensor& x, const tensor& out, std::span<const int64_t> offsets) override {
    FT_CHECK(x.contiguous() && out.contiguous() && x.type == out.type && offsets.size() == at_.num_ranks() + 1 &&
             offsets.back() == out.dim(1) && width_of(offsets, rank_) == x.dim(1));
    if (ex.rehearses) return;
    const int64_t rows = out.dim(0);
    const auto most = static_cast<int64_t>(at_.slot_bytes);
    int64_t longest = 0;
    for (int r = 0; r < at_.size; ++r)
      longest = std::max(longest, static_cast<int64_t>(bytes_of(x.type, rows * width_of(offsets, r))));
    const auto mine = static_cast<int64_t>(bytes_of(x.type, x.size()));
    for (int64_t begin = 0; begin == 0 || begin < longest; begin += most) {
      if (begin < mine)
        std::memcpy(next_slot(), x.as<char>() + begin, static_cast<size_t>(std::min(most, mine - begin)));
      take_turn({kind::gather, static_cast<uint32_t>(x.type), out.size()}, false);
      for (int r = 0; r < at_.size; ++r) scatter(out, offsets, r, begin, std::min(begin + most, longest));
    }
    done_.gathers += rank_ == 0;
  }

  void send(exec& ex, const tensor& x, int to, bool stop) override {
    FT_CHECK(x.contiguous() && 0 <= to && to < at_.size && to != rank_);
    if (ex.rehearses) return;
    throw_if_aborted();
    box_state& box = box_of(rank_, to);
    const size_t all = bytes_of(x.type, x.size());
    for (size_t begin = 0; begin == 0 || begin < all; begin += at_.slot_bytes) {
      const uint64_t turn = box.sent.load(std::memory_order_relaxed);
      await([&] { return turn - box.taken.load() < pair_of_slots; });
      const size_t slot = turn % pair_of_slots;
      std::memcpy(box_slot(rank_, to, slot), x.as<char>() + begin, std::min(at_.slot_bytes, all - begin));
      box.intents[slot] = {kind::send, static_cast<uint32_t>(x.type), x.size()};
      box.stop[slot] = stop;
      box.sent.store(turn + 1);
      group().changed.notify();
    }
    ++done_.sends;
  }

  bool receive(exec& ex, const tensor& x, int from) override {
    FT_CHECK(x.contiguous() && 0 <= from && from < at_.size && from != rank_);
    if (ex.rehearses) return false;
    throw_if_aborted();
    box_state& box = box_of(from, rank_);
    const size_t all = bytes_of(x.type, x.size());
    bool stops = false;
    for (size_t begin = 0; begin == 0 || begin < all; begin += at_.slot_bytes) {
      const uint64_t turn = box.taken.load(std::memory_order_relaxed);
      await([&] { return box.sent.load() > turn; });
      const size_t slot = turn % pair_of_slots;
      if (box.intents[slot] != intent{kind::send, static_cast<uint32_t>(x.type), x.size()}) disagree();
      std::memcpy(x.as<char>() + begin, box_slot(from, rank_, slot), std::min(at_.slot_bytes, all - begin));
      stops = box.stop[slot];
      box.taken.store(turn + 1);
      group().changed.notify();
    }
    return stops;
  }

  void barrier(exec& ex) override {
    if (ex.rehearses) return;
    take_turn({kind::barrier, 0, 0}, false);
    done_.barriers += rank_ == 0;
  }

  void abort(ft_status code, const char* message) noexcept override {
    group_state& g = group();
    uint32_t was = running;
    if (!g.abort.compare_exchange_strong(was, being_aborted)) return;
    g.code = code;
    std::strncpy(g.message, message, sizeof g.message - 1);
    g.abort.store(aborted);
    g.changed.notify();
  }

  void recover() override {
    group_state& g = group();
    for (int r = 0; r < at_.size; ++r) turn_of(r).turn.store(0);
    for (int from = 0; from < at_.size; ++from)
      for (int to = 0; to < at_.size; ++to) {
        box_of(from, to).sent.store(0);
        box_of(from, to).taken.store(0);
      }
    std::memset(g.message, 0, sizeof g.message);
    g.generation.fetch_add(1);
    g.abort.store(running);
  }

  const counts& done() const { return done_; }

 private:
  group_state& group() const { return *reinterpret_cast<group_state*>(region_); }
  turn_state& turn_of(int r) const { return reinterpret_cast<turn_state*>(region_ + at_.turns_at())[r]; }
  box_state& box_of(int from, int to) const {
    return reinterpret_cast<box_state*>(region_ + at_.boxes_at())[from * at_.size + to];
  }
  char* turn_slot(int r, size_t slot) const {
    return region_ + at_.turn_slots_at() + (static_cast<size_t>(r) * pair_of_slots + slot) * at_.slot_bytes;
  }
  char* box_slot(int from, int to, size_t slot) const {
    const auto box = static_cast<size_t>(from * at_.size + to);
    return region_ + at_.box_slots_at() + (box * pair_of_slots + slot) * at_.slot_bytes;
  }
  static int64_t width_of(std::span<const int64_t> offsets, int r) {
    return offsets[static_cast<size_t>(r) + 1] - offsets[static_cast<size_t>(r)];
  }

  // Where this rank's next slice goes. Everybody has read what lay there, since all came to the turn behind it.
  char* next_slot() {
    throw_if_aborted();
    if (const uint32_t now = group().generation.load(); now != generation_) generation_ = now, turn_ = 0;
    return turn_slot(rank_, turn_ % pair_of_slots);
  }

  // Publishes the slice and waits for the others'.
  void take_turn(const intent& mine, bool stop) {
    next_slot();
    const size_t slot = turn_ % pair_of_slots;
    turn_state& own = turn_of(rank_);
    own.intents[slot] = mine;
    own.stop[slot] = stop;
    own.turn.store(++turn_);
    group().changed.notify();
    for (int r = 0; r < at_.size; ++r) await([&] { return turn_of(r).turn.load() >= turn_; });
    for (int r = 0; r < at_.size; ++r)
      if (turn_of(r).intents[slot] != mine) disagree();
  }
  // Of the turn taken last.
  size_t last_slot() const { return (turn_ - 1) % pair_of_slots; }
  bool stop_of(int r) const { return turn_of(r).stop[last_slot()]; }

  // In the order of the ranks, in float32, rounded once.
  void sum(dtype type, char* out, int64_t count) const {
    const size_t slot = last_slot();
    if (type == dtype::f32) {
      auto* sums = reinterpret_cast<float*>(out);
      std::memcpy(sums, turn_slot(0, slot), bytes_of(type, count));
      for (int r = 1; r < at_.size; ++r) {
        const auto* more = reinterpret_cast<const float*>(turn_slot(r, slot));
        for (int64_t i = 0; i < count; ++i) sums[i] += more[i];
      }
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      float total = read_float(type, turn_slot(0, slot), i);
      for (int r = 1; r < at_.size; ++r) total += read_float(type, turn_slot(r, slot), i);
      write_float(type, out, i, total);
    }
  }

  // Bytes [begin, end) of a rank's columns, row by row, to their places.
  void scatter(const tensor& out, std::span<const int64_t> offsets, int r, int64_t begin, int64_t end) const {
    const auto row_bytes = static_cast<int64_t>(bytes_of(out.type, width_of(offsets, r)));
    const auto all_bytes = static_cast<int64_t>(bytes_of(out.type, out.dim(1)));
    const auto at = static_cast<int64_t>(bytes_of(out.type, offsets[static_cast<size_t>(r)]));
    const char* from = turn_slot(r, last_slot());
    end = std::min(end, row_bytes * out.dim(0));
    for (int64_t i = begin; i < end;) {
      const int64_t row = i / row_bytes, column = i % row_bytes, n = std::min(row_bytes - column, end - i);
      std::memcpy(out.as<char>() + row * all_bytes + at + column, from + (i - begin), static_cast<size_t>(n));
      i += n;
    }
  }

  // Returns when it holds; throws when the group is aborted before.
  template <class Condition>
  void await(Condition&& holds) {
    group_state& g = group();
    g.changed.await([&] { return holds() || g.abort.load() == aborted; });
    if (!holds()) throw_if_aborted();
  }

  void throw_if_aborted() const {
    const group_state& g = group();
    if (g.abort.load() == aborted) throw error(static_cast<ft_status>(g.code), g.message);
  }
  [[noreturn]] void disagree() {
    constexpr const char* message = "the ranks of a model do not do the same";
    abort(FT_ERROR_INTERNAL, message);
    fail(FT_ERROR_INTERNAL, message);
  }

  const layout& at_;
  char* const region_;
  const int rank_;
  uint64_t turn_ = 0;
  uint32_t generation_ = 0;
  counts done_;
};

shared_memory_group::shared_memory_group(int size, size_t slot_bytes) : at_(new layout{size, slot_bytes}) {
  FT_CHECK(size > 0 && slot_bytes > 0 && slot_bytes % 64 == 0);
  region_ = buffer(host_memory(), at_->bytes());
  char* region = region_.as<char>();
  new (region) group_state{};
  for (size_t r = 0; r < at_->num_ranks(); ++r) new (region + at_->turns_at() + r * sizeof(turn_state)) turn_state{};
  for (size_t b = 0; b < at_->num_ranks() * at_->num_ranks(); ++b)
    new (region + at_->boxes_at() + b * sizeof(box_state)) box_state{};
  for (int r = 0; r < size; ++r) members_.push_back(std::make_unique<member>(*at_, region, r));
}

shared_memory_group::~shared_memory_group() = default;

communicator& shared_memory_group::rank(int r) { return *members_[static_cast<size_t>(r)]; }

shared_memory_group::counts shared_memory_group::done() const {
  counts all = members_.front()->done();
  for (size_t r = 1; r < members_.size(); ++r) all.sends += members_[r]->done().sends;
  return all;
}

}  // namespace ft
