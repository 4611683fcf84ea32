// Tensors, arenas and the thread pool.
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "check.h"
#include "core/arena.h"
#include "core/dtype.h"
#include "core/lru_cache.h"
#include "core/tensor.h"
#include "core/thread_pool.h"

using namespace ft;

TEST(dtype_sizes) {
  CHECK_EQ(bytes_of(dtype::bf16, 3), 6u);
  CHECK_EQ(bytes_of(dtype::q4_1, 64), 40u);
  CHECK_EQ(bytes_of(dtype::q6_k, 256), 210u);
  CHECK_ERROR(FT_ERROR_INTERNAL, "does not hold", bytes_of(dtype::q4_0, 33));
  CHECK(dtype_from_name("bfloat16") == dtype::bf16);
  CHECK(!dtype_from_name("fp8"));
}

TEST(tensor_views_share_memory) {
  float data[24];
  std::iota(data, data + 24, 0.0f);
  const tensor t(data, dtype::f32, {4, 6});
  const tensor columns = t.slice(1, 2, 4);
  CHECK(!columns.contiguous());
  CHECK_EQ(columns.as<float>()[columns.stride[0]], 8.0f);
  const tensor heads = t.split_last(3);
  CHECK_EQ(heads.dim(1), 3);
  CHECK_EQ(heads.dim(-1), 2);
  CHECK_EQ(heads.stride[1], 2);
  CHECK_EQ(t.reshape({2, 12}).stride[0], 12);
  CHECK_ERROR(FT_ERROR_INTERNAL, "contiguous", columns.reshape({8}));
  CHECK_ERROR(FT_ERROR_INTERNAL, "", t.slice(0, 3, 5));
}

TEST(arena_reuses_and_gathers) {
  arena a(host_memory());
  for (int round = 0; round < 3; ++round) {
    const uint64_t before = allocation_count();
    float* first = a.make<float>(1000);
    {
      arena::scope scope(a);
      a.make<float>(100000);
    }
    float* again = a.make<float>(500);
    CHECK(again != first);
    first[999] = again[499] = 1;
    CHECK_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
    a.reset();
    if (round == 2) CHECK_EQ(allocation_count(), before);  // everything fits in one block by now
  }
}

TEST(thread_pool_covers_each_index_once) {
  for (int threads : {1, 2, 5}) {
    thread_pool pool(threads);
    CHECK_EQ(pool.size(), threads);
    for (int64_t count : {0, 1, 7, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(count));
      pool.parallel_for(count, 3, [&](int64_t begin, int64_t end, int worker) {
        CHECK(worker >= 0 && worker < threads);
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      for (const auto& h : hits) CHECK_EQ(h.load(), 1);
    }
  }
}

TEST(thread_pool_wakes_sleeping_workers) {
  thread_pool pool(3);
  for (int round = 0; round < 50; ++round) {
    if (round % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // longer than workers spin
    std::atomic<int> ran{0};
    pool.run([&](int) { ++ran; });
    CHECK_EQ(ran.load(), 3);
  }
}

TEST(an_lru_cache_drops_what_was_used_least_recently) {
  lru_cache<int, int> cache(3);
  CHECK(cache.find(1) == nullptr);
  for (int i = 1; i <= 3; ++i) cache.put(i, 10 * i);
  CHECK_EQ(*cache.find(1), 10);
  cache.put(4, 40);  // 2 goes
  CHECK(cache.find(2) == nullptr && cache.size() == 3);
  cache.put(3, 33);  // is used, not another
  CHECK_EQ(cache.size(), 3u);
  cache.put(5, 50);  // 1 goes
  CHECK(!cache.find(1) && *cache.find(3) == 33 && *cache.find(4) == 40 && *cache.find(5) == 50);
  cache.clear();
  CHECK(cache.size() == 0 && !cache.find(3));
  for (int i = 0; i < 1000; ++i) cache.put(i, i);
  CHECK_EQ(cache.size(), 3u);
}
