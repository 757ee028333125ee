// The drive of a loop: who has it may work on the loop, and everything of the loop is his alone. The loop's
// own thread has it while it is awake; a thread that waits for a page takes it when nobody has it, and so
// serves itself without waking anybody.
//
// Taking and releasing order memory as a lock does. A signal handler may use it: whoever holds the drive has
// all signals blocked, so that no thread can come to wait for itself.
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/futex.h"

namespace pagewire::dataplane {

class Drive {
 public:
  // Any thread. False if somebody has it.
  bool try_take() {
    std::uint32_t free = kFree;
    return word_.load(std::memory_order_relaxed) == kFree &&
           word_.compare_exchange_strong(free, kTaken, std::memory_order_acquire, std::memory_order_relaxed);
  }
  // Sleeps until it has it: for threads that were woken to do the loop's work.
  void take() {
    if (try_take()) return;
    waiting_count_.fetch_add(1, std::memory_order_relaxed);
    // Kept as wanted even when it was free: others may wait, too.
    while (word_.exchange(kWanted, std::memory_order_acquire) != kFree) futex_wait(word_, kWanted);
    waiting_count_.fetch_sub(1, std::memory_order_relaxed);
  }
  // Who has it: somebody waits in take(). The word alone cannot tell: who had to wait leaves it at kWanted.
  bool wanted() const { return waiting_count_.load(std::memory_order_relaxed) > 0; }
  bool is_free() const { return word_.load(std::memory_order_relaxed) == kFree; }
  void release() {
    if (word_.exchange(kFree, std::memory_order_release) == kWanted) futex_wake(word_, 1);
  }

 private:
  static constexpr std::uint32_t kFree = 0;
  static constexpr std::uint32_t kTaken = 1;
  static constexpr std::uint32_t kWanted = 2;  // taken, and somebody may wait
  std::atomic<std::uint32_t> word_{kTaken};    // until the loop's thread has started
  std::atomic<std::uint32_t> waiting_count_{0};
};

}  // namespace pagewire::dataplane
