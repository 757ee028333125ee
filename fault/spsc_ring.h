// A bounded ring between two threads: exactly one pushes, exactly one peeks and pops. Neither ever waits; a
// full ring refuses, an empty one says so. All memory is taken by the constructor.
//
// Each side keeps a copy of the other's index and looks at the real one only when the copy says full or
// empty, so that in a steady flow the cache line of an index is not passed to and fro for every element.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace pagewire::fault {

inline constexpr std::size_t kCacheLineBytes = 64;

template <typename T>
class SpscRing {
  static_assert(std::is_nothrow_move_assignable_v<T> && std::is_nothrow_default_constructible_v<T>);

 public:
  // `capacity`: elements held at most; a power of two, else std::invalid_argument.
  explicit SpscRing(std::size_t capacity) : mask_(checked(capacity) - 1), slots_(capacity) {}
  SpscRing(const SpscRing&) = delete;
  SpscRing& operator=(const SpscRing&) = delete;

  // Producer. False if the ring is full; `value` is then untouched.
  bool try_push(T&& value) noexcept {
    const std::size_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ > mask_) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ > mask_) return false;
    }
    slots_[tail & mask_] = std::move(value);
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  bool try_push(const T& value) noexcept(std::is_nothrow_copy_constructible_v<T>) {
    T copy = value;
    return try_push(std::move(copy));
  }

  // Consumer. The oldest element, or null if there is none; it stays valid until pop().
  T* peek() noexcept {
    const std::size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return nullptr;
    }
    return &slots_[head & mask_];
  }

  // Consumer. Drops the element that peek() showed; only after a peek() that was not null.
  void pop() noexcept { head_.store(head_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

  // Any thread; out of date at once unless the caller is the only one who could change it. A consumer about
  // to sleep announces that, makes a seq_cst fence, and asks; a producer pushes, makes a seq_cst fence, and
  // looks for the announcement: then one of the two sees the other.
  bool empty() const noexcept {
    const std::size_t head = head_.load(std::memory_order_acquire);
    return head == tail_.load(std::memory_order_acquire);
  }

  std::size_t capacity() const noexcept { return mask_ + 1; }

 private:
  static std::size_t checked(std::size_t capacity) {
    if (!std::has_single_bit(capacity))
      throw std::invalid_argument("SpscRing: the capacity is not a power of two");
    return capacity;
  }

  const std::size_t mask_;
  std::vector<T> slots_;
  // Both indices only grow; the slot is index & mask_.
  alignas(kCacheLineBytes) std::atomic<std::size_t> tail_{0};  // written by the producer
  std::size_t head_seen_ = 0;                                  // the producer's
  alignas(kCacheLineBytes) std::atomic<std::size_t> head_{0};  // written by the consumer
  std::size_t tail_seen_ = 0;                                  // the consumer's
};

}  // namespace pagewire::fault
