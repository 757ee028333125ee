#include "test/fuzz/scripted_clock.h"

#include <atomic>
#include <chrono>

namespace pagewire::test {

using Clock = std::chrono::steady_clock;

// The linker's names: --wrap leads all calls of now() to the second, and calls of the first to the real one.
Clock::time_point machine_now() noexcept asm("__real__ZNSt6chrono3_V212steady_clock3nowEv");
Clock::time_point scripted_now() noexcept asm("__wrap__ZNSt6chrono3_V212steady_clock3nowEv");

namespace {
std::atomic<std::uint64_t> stands_at_ns{0};  // 0: the machine's clock
}  // namespace

Clock::time_point scripted_now() noexcept {
  const std::uint64_t ns = stands_at_ns.load(std::memory_order_relaxed);
  return ns == 0 ? machine_now() : Clock::time_point(std::chrono::nanoseconds(ns));
}

void set_clock(std::uint64_t ns) { stands_at_ns.store(ns, std::memory_order_relaxed); }

void release_clock() { stands_at_ns.store(0, std::memory_order_relaxed); }

}  // namespace pagewire::test
