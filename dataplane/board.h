// Where threads leave small things (faults, wishes) for whoever drives the loop. Any number of threads post,
// the loop's driver takes. Nobody waits for anybody: a thread that is stopped in the middle of posting delays
// its own thing alone. No order is kept.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace pagewire::dataplane {

template <typename T>
class Board {
 public:
  static constexpr std::size_t kPlaces = 64;

  // Any thread, also in a signal handler. False if the board is full.
  bool post(const T& thing) {
    std::uint64_t claimed = claimed_.load(std::memory_order_relaxed);
    for (;;) {
      if (~claimed == 0) return false;
      const std::uint64_t place = ~claimed & (claimed + 1);  // the lowest free one
      if (!claimed_.compare_exchange_weak(claimed, claimed | place, std::memory_order_acquire,
                                          std::memory_order_relaxed)) {
        continue;
      }
      things_[static_cast<std::size_t>(std::countr_zero(place))] = thing;
      posted_.fetch_or(place, std::memory_order_release);
      return true;
    }
  }

  // The driver: calls serve(thing) for each that is there; one that it returns false for stays. True if any
  // was taken.
  template <typename Serve>
  bool take(Serve&& serve) {
    std::uint64_t left = posted_.load(std::memory_order_acquire);
    std::uint64_t taken = 0;
    for (; left != 0; left &= left - 1) {
      const std::uint64_t place = left & (~left + 1);
      if (serve(things_[static_cast<std::size_t>(std::countr_zero(place))])) taken |= place;
    }
    if (taken == 0) return false;
    posted_.fetch_and(~taken, std::memory_order_relaxed);
    claimed_.fetch_and(~taken, std::memory_order_release);
    return true;
  }

  // Any thread; out of date at once.
  bool empty() const { return posted_.load(std::memory_order_acquire) == 0; }

 private:
  alignas(64) std::atomic<std::uint64_t> claimed_{0};
  alignas(64) std::atomic<std::uint64_t> posted_{0};
  alignas(64) std::array<T, kPlaces> things_{};
};

}  // namespace pagewire::dataplane
