// A counter that one thread writes and any thread reads, without a lock or a locked instruction; or that many
// write, with one.
#pragma once

#include <atomic>
#include <cstdint>

namespace pagewire::dataplane {

class Counter {
 public:
  void add(std::uint64_t more = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  // Instead of add(), on a counter that several threads write.
  void add_shared(std::uint64_t more = 1) { value_.fetch_add(more, std::memory_order_relaxed); }
  void raise_shared(std::uint64_t least) {
    std::uint64_t value = get();
    while (value < least && !value_.compare_exchange_weak(value, least, std::memory_order_relaxed)) {
    }
  }
  void sub(std::uint64_t less) {
    value_.store(value_.load(std::memory_order_relaxed) - less, std::memory_order_relaxed);
  }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

}  // namespace pagewire::dataplane
