// Philox4x32-10, a counter-based random generator (Salmon et al., SC11, doi:10.1145/2063384.2063405): the n-th draw of
// a seed is a pure function of both, so a request's draws do not depend on what runs beside it.
#pragma once

#include <array>
#include <cstdint>

namespace ft::decode {

inline std::array<uint32_t, 4> philox(uint64_t seed, uint64_t counter, uint64_t stream = 0) {
  constexpr uint64_t multiplier[2] = {0xD2511F53u, 0xCD9E8D57u};
  constexpr uint32_t weyl[2] = {0x9E3779B9u, 0xBB67AE85u};
  std::array<uint32_t, 4> c = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  uint32_t key[2] = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = multiplier[0] * c[0], b = multiplier[1] * c[2];
    c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ key[0], static_cast<uint32_t>(b),
         static_cast<uint32_t>(a >> 32) ^ c[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += weyl[0];
    key[1] += weyl[1];
  }
  return c;
}

// Uniform in [0, 1), 53 random bits.
inline double uniform(uint64_t seed, uint64_t counter, uint64_t stream = 0) {
  const auto r = philox(seed, counter, stream);
  const uint64_t bits = (static_cast<uint64_t>(r[0]) << 32 | r[1]) >> 11;
  return static_cast<double>(bits) * 0x1.0p-53;
}

}  // namespace ft::decode
