#include "backends/cuda/device/upload.h"

#include <algorithm>
#include <cstring>

#include "backends/cuda/device/convert.h"
#include "backends/cuda/device/device_scope.h"
#include "backends/cuda/kernel/launch.h"

namespace ft::cuda {
namespace {

constexpr int64_t stage_bytes = int64_t{4} << 20;
constexpr int most_lanes = 8;
constexpr size_t plenty = size_t{1} << 30;  // free on the device: below that the weights need what a lane would take

// Rows [begin, end) of `part` as dense rows.
template <class T>
void gather_strided(const tensor& part, int64_t begin, int64_t end, T* to) {
  constexpr int64_t tile = 16;  // of a transposed matrix, rows that share a cache line
  const int64_t columns = part.dim(1);
  for (int64_t first = begin; first < end; first += tile)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = first; r < std::min(first + tile, end); ++r)
        to[(r - begin) * columns + c] = part.as<const T>()[r * part.stride[0] + c * part.stride[1]];
}

void gather(const stored_weight& weight, int64_t begin, int64_t end, void* to) {
  const tensor& part = weight.data;
  const int64_t columns = weight.columns();
  if (!weight.format->is_float()) {
    for (int64_t r = begin; r < end; ++r) weight.expand(r, static_cast<float*>(to) + (r - begin) * columns);
  } else if (columns == 1 || part.stride[1] == 1) {
    const size_t row_bytes = bytes_of(part.type, columns);
    const char* rows = part.as<const char>();
    for (int64_t r = begin; r < end; ++r)
      std::memcpy(static_cast<char*>(to) + static_cast<size_t>(r - begin) * row_bytes,
                  rows + bytes_of(part.type, r * part.stride[0]), row_bytes);
  } else if (part.type == dtype::f32) {
    gather_strided(part, begin, end, static_cast<uint32_t*>(to));
  } else {
    gather_strided(part, begin, end, static_cast<uint16_t*>(to));
  }
}

// What is not a float is expanded to float32 on the host and rounded on the device.
dtype staged_type(const stored_weight& part) { return part.format->is_float() ? part.data.type : dtype::f32; }

int64_t rows_of_piece(const stored_weight& part) {
  const auto row_bytes = static_cast<int64_t>(bytes_of(staged_type(part), part.columns()));
  if (row_bytes > stage_bytes)
    fail(FT_ERROR_UNSUPPORTED, "a weight of ", part.columns(), " columns is too wide to load; there is room for ",
         stage_bytes / 4);
  return std::max<int64_t>(1, stage_bytes / std::max<int64_t>(1, row_bytes));
}

}  // namespace

// Used by one thread at a time.
class upload_lane {
 public:
  upload_lane() {
    try {
      check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
      for (stage& s : stages_) {
        check(cudaMallocHost(&s.host, stage_bytes), "taking pinned memory to load weights through");
        check(cudaEventCreateWithFlags(&s.free, cudaEventDisableTiming), "making an event");
      }
    } catch (...) {
      close();
      throw;
    }
  }
  upload_lane(const upload_lane&) = delete;
  upload_lane& operator=(const upload_lane&) = delete;
  ~upload_lane() { close(); }

  // Queues rows [begin, end), at most a piece of them.
  void queue(const tensor& to, const stored_weight& part, int64_t begin, int64_t end) {
    stage& s = stages_[turn_];
    turn_ ^= 1;
    check(cudaEventSynchronize(s.free), "loading weights");
    gather(part, begin, end, s.host);
    const dtype staged = staged_type(part);
    const tensor target = to.slice(0, begin, end);
    const bool converts = staged != to.type;
    if (converts && !s.device) check(cudaMalloc(&s.device, stage_bytes), "taking memory to load weights through");
    check(cudaMemcpyAsync(converts ? s.device : target.data, s.host, bytes_of(staged, target.size()),
                          cudaMemcpyHostToDevice, stream_),
          "loading weights");
    if (converts) convert(target, tensor(s.device, staged, {end - begin, part.columns()}), stream_);
    check(cudaEventRecord(s.free, stream_), "loading weights");
  }

  void wait() { check(cudaStreamSynchronize(stream_), "loading weights"); }
  void settle() noexcept { (void)cudaStreamSynchronize(stream_); }

 private:
  struct stage {
    void* host = nullptr;    // pinned
    void* device = nullptr;  // where a piece waits to be converted; taken when first needed
    cudaEvent_t free = nullptr;
  };

  void close() noexcept {
    for (stage& s : stages_) {
      cudaFreeHost(s.host);
      cudaFree(s.device);
      if (s.free) cudaEventDestroy(s.free);
    }
    if (stream_) cudaStreamDestroy(stream_);
  }

  cudaStream_t stream_ = nullptr;
  stage stages_[2];
  int turn_ = 0;
};

class uploader::lease {
 public:
  explicit lease(uploader& from) : from_(from), lane_(from.take()) {}
  lease(const lease&) = delete;
  lease& operator=(const lease&) = delete;
  ~lease() {
    lane_->settle();  // after a failure nothing more is written to memory that the caller frees
    from_.give_back(std::move(lane_));
  }
  upload_lane* operator->() const { return lane_.get(); }

 private:
  uploader& from_;
  std::unique_ptr<upload_lane> lane_;
};

uploader::uploader(int device) : device_(device) { idle_.reserve(most_lanes); }
uploader::~uploader() = default;

bool uploader::may_open_another() const {
  if (lanes_ == 0) return true;
  size_t free = 0, total = 0;
  return lanes_ < most_lanes && cudaMemGetInfo(&free, &total) == cudaSuccess && free >= plenty;
}

std::unique_ptr<upload_lane> uploader::take() {
  std::unique_lock lock(mutex_);
  while (idle_.empty() && !may_open_another()) came_back_.wait(lock);
  if (idle_.empty()) {
    auto made = std::make_unique<upload_lane>();
    ++lanes_;
    return made;
  }
  std::unique_ptr<upload_lane> lane = std::move(idle_.back());
  idle_.pop_back();
  return lane;
}

// When loading is over one lane is kept for the next.
void uploader::give_back(std::unique_ptr<upload_lane> lane) noexcept {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(lane));  // there is room for all
  if (static_cast<int>(idle_.size()) == lanes_) {
    idle_.resize(1);
    lanes_ = 1;
  }
  came_back_.notify_one();
}

void uploader::upload(const tensor& to, const stored_weight& part, thread_pool* pool) {
  const int64_t piece = rows_of_piece(part), rows = part.rows();
  const auto upload_rows = [&](int64_t first, int64_t last) {
    const device_scope scope(device_);
    const lease lane(*this);
    for (int64_t begin = first; begin < last; begin += piece)
      lane->queue(to, part, begin, std::min(begin + piece, last));
    lane->wait();
  };
  constexpr int64_t pieces_at_once = 8;
  const int64_t share = piece * pieces_at_once;
  if (!pool || rows <= share) return upload_rows(0, rows);
  pool->parallel_for_or_throw((rows + share - 1) / share,
                              [&](int64_t i) { upload_rows(i * share, std::min((i + 1) * share, rows)); });
}

}  // namespace ft::cuda
