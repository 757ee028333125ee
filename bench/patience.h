// Waiting for something that another core is about to do. One thread.
#pragma once

#include <rte_pause.h>
#include <sched.h>

#include <cstdint>

namespace pagewire::bench {

// Spins for a moment, as a loop would, and then lets others run.
class Patience {
 public:
  void wait() {
    if (++waits_ < kSpins) {
      rte_pause();
    } else {
      ::sched_yield();
    }
  }

 private:
  static constexpr std::uint32_t kSpins = 2'000;
  std::uint32_t waits_ = 0;
};

}  // namespace pagewire::bench
