// One of the two processes that measure the floors: they have a port and memory, and no Node. Between their
// turns they are blocked on their sockets.
#pragma once

#include <cstdint>
#include <string>

#include "bench/group.h"

namespace pagewire::bench {

struct FloorMember {
  std::uint32_t index = 0;  // 0 measures, 1 answers
  std::string folder;       // of the port
};

// Opens the port, says so, and then answers one message for each that it gets, {"do": WHAT, "count": N},
// until "end". Of N times the first are not given: they are warm-up.
//
//   local_thread, local_pinned, local_inline     process 0: faults of its own memory
//   local_scan                                   process 0
//   ping_small, ping_page, bare                  both, at once
//   line                                         process 0
void run_floors(const FloorMember& member, const Channel& channel);

// How many of the first times of each floor are not given.
inline constexpr std::size_t kFloorWarmUp = 16;

}  // namespace pagewire::bench
