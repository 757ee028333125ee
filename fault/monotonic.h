// The clock that faults are stamped with. Any thread, signal handlers included.
#pragma once

#include <cstdint>
#include <ctime>

namespace pagewire::fault {

// CLOCK_MONOTONIC in nanoseconds.
inline std::uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace pagewire::fault
