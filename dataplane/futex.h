// The kernel's futex on a word of this process: the only way to wait that is allowed in a signal handler and
// needs no descriptor. Any thread. Source: futex(2).
#pragma once

#include <atomic>
#include <cstdint>

namespace pagewire::dataplane {

// Returns when somebody wakes the word, when it no longer holds `seen`, when a signal came, or after so long.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen);
void futex_wait_for(std::atomic<std::uint32_t>& word, std::uint32_t seen, std::uint64_t ns);
void futex_wake(std::atomic<std::uint32_t>& word, int count);
inline constexpr int kWakeAll = 0x7fffffff;

}  // namespace pagewire::dataplane
