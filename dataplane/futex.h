// The kernel's futex on a word of this process: the only way to wait that is allowed in a signal handler and
// needs no descriptor. Any thread. Source: futex(2).
#pragma once

#include <atomic>
#include <cstdint>

namespace pagewire::dataplane {

// Returns when somebody wakes the word, when it no longer holds `seen`, or when a signal came.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen);
void futex_wake(std::atomic<std::uint32_t>& word, int count);
inline constexpr int kWakeAll = 0x7fffffff;

}  // namespace pagewire::dataplane
