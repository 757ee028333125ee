// The simulator's only source of chance: xoshiro256**, seeded by splitmix64. Own code, because the standard
// library's distributions may differ from one library to the next, and a seed must mean the same everywhere.
// A plain value; one thread.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace pagewire::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) {
    for (std::uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15;
      std::uint64_t mixed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9;
      mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
      word = mixed ^ (mixed >> 31);
    }
  }
  std::uint64_t next() {
    const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  // 0..bound-1; 0 if bound is 0. Bounds up to 2^32.
  std::uint64_t below(std::uint64_t bound) { return (next() >> 32) * bound >> 32; }
  // Both ends included.
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  // True that many times in 65,536.
  bool chance(std::uint32_t share) { return share != 0 && (next() >> 48) < share; }
  bool coin() { return (next() >> 63) != 0; }
  template <typename T, std::size_t N>
  T one_of(const std::array<T, N>& choices) {
    return choices[below(N)];
  }

 private:
  std::array<std::uint64_t, 4> state_{};
};

inline constexpr std::uint32_t kAlways = 65536;  // the share that chance() always grants

}  // namespace pagewire::sim
