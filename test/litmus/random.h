// Random numbers that are the same everywhere for the same seed. Pure; any thread.
#pragma once

#include <cstdint>

namespace pagewire::litmus {

class Random {  // splitmix64
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  std::uint64_t below(std::uint64_t bound) { return (next() >> 32) * bound >> 32; }  // bound below 2^32

 private:
  std::uint64_t state_;
};

}  // namespace pagewire::litmus
