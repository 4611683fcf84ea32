// Pieces of weight memory: apart from each other, aligned, of any size, and given back with their slab.
#include "backends/cpu/weight_memory.h"

#include <cstring>
#include <thread>
#include <vector>

#include "check.h"

namespace ft {
namespace {

TEST(weight_memory_pieces_lie_apart) {
  std::vector<buffer> pieces;
  for (size_t bytes :
       {size_t{1}, size_t{100}, size_t{64}, size_t{40} << 20, size_t{3} << 20, size_t{31} << 20, size_t{7}})
    pieces.emplace_back(cpu::weight_memory(), bytes);
  for (size_t i = 0; i < pieces.size(); ++i) {
    CHECK(reinterpret_cast<uintptr_t>(pieces[i].data()) % 64 == 0);
    std::memset(pieces[i].data(), static_cast<int>(i + 1), pieces[i].bytes());
  }
  for (size_t i = 0; i < pieces.size(); ++i)
    for (size_t at : {size_t{0}, pieces[i].bytes() / 2, pieces[i].bytes() - 1})
      CHECK_EQ(static_cast<int>(pieces[i].as<char>()[at]), static_cast<int>(i + 1));
}

TEST(weight_memory_takes_few_slabs_and_gives_them_back) {
  const uint64_t before = allocation_count();
  for (int round = 1; round <= 3; ++round) {
    std::vector<buffer> pieces;
    for (int i = 0; i < 100; ++i) pieces.emplace_back(cpu::weight_memory(), 1000);
    CHECK_EQ(allocation_count() - before, static_cast<uint64_t>(round));  // one slab a round: the last was freed
    pieces.erase(pieces.begin(), pieces.begin() + 99);
    pieces.emplace_back(cpu::weight_memory(), 1000);
    CHECK_EQ(allocation_count() - before, static_cast<uint64_t>(round));
  }
}

TEST(weight_memory_serves_many_threads) {
  std::vector<std::thread> threads;
  std::vector<int> faults(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t, &faults] {
      for (int round = 0; round < 50; ++round) {
        std::vector<buffer> pieces;
        for (int i = 1; i < 20; ++i) {
          pieces.emplace_back(cpu::weight_memory(), static_cast<size_t>(i) * 1000);
          std::memset(pieces.back().data(), t + 1, pieces.back().bytes());
        }
        for (const buffer& piece : pieces)
          for (size_t i = 0; i < piece.bytes(); ++i) faults[static_cast<size_t>(t)] += piece.as<char>()[i] != t + 1;
      }
    });
  for (std::thread& t : threads) t.join();
  for (int f : faults) CHECK_EQ(f, 0);
}

}  // namespace
}  // namespace ft
