// What all fuzz targets share: reading choices from the fuzzer's bytes, and saying what does not hold. Any
// thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace pagewire::test {

// Choices, one after the other, from the front of the input; past its end all are 0.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }

  template <typename T = std::uint8_t>
  T get() {
    std::uint64_t value = 0;
    const std::size_t count = std::min(rest_.size(), sizeof(T));
    for (std::size_t i = 0; i < count; ++i) value |= std::uint64_t{rest_[i]} << (8 * i);
    rest_ = rest_.subspan(count);
    return static_cast<T>(value);
  }
  bool flag() { return (get() & 1) != 0; }
  // 0 to bound - 1; bound up to 256.
  std::uint8_t below(std::uint32_t bound) { return static_cast<std::uint8_t>(get() % bound); }
  // As many of the next `count` bytes as there are.
  std::span<const std::byte> take(std::size_t count) {
    const auto taken = std::as_bytes(rest_.first(std::min(count, rest_.size())));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::span<const std::byte> all() { return take(rest_.size()); }

 private:
  std::span<const std::uint8_t> rest_;
};

// What must hold for every input; where it does not, the process ends as in a crash, so that the fuzzer keeps
// the input.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

}  // namespace pagewire::test
