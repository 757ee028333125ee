// What happened in a run, or in many. Plain values; one thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "protocol/round.h"
#include "protocol/wire.h"
#include "test/sim/setting.h"

namespace pagewire::sim {

enum class Counter : std::uint8_t {
  kLoads,
  kStores,
  kReadFaults,
  kWriteFaults,
  kBusyFaults,   // tried again later: no round
  kPrefetches,   // faults that nobody waits for
  kStaleFaults,  // served before they came out of the ring
  kHandOvers,    // ownership accepted
  kFramesSent,   // one a receiver
  kFlooded,      // ... besides, to those that it is not for
  kFramesTaken,  // reached the core
  kFramesLost,   // by the link
  kFramesCut,    // by a partition
  kFramesClogged,
  kFramesDoubled,
  kFramesOvertaken,
  kFramesLate,  // copies that come very late
  kFramesGarbled,
  kFramesWithoutRoom,  // the network's store is full
  kPostponed,          // by a pause
  kStrangeFrames,      // of a node in a life that nobody knows
  kTimeouts,
  kRepeatedRequests,  // satisfied only after they were asked again, once each
  kTurns,             // told by the data plane
  kTurnsServed,       // ... while messages waited for it
  kFalseTurns,        // told, and nobody had one
  kPagesGivenUp,      // of which a dead node was owner or holder: safety alone is demanded
  kCount,
};
inline constexpr std::size_t kCounters = static_cast<std::size_t>(Counter::kCount);
const char* counter_name(Counter counter);

struct Counters {
  std::array<std::uint64_t, kCounters> of{};
  std::array<std::uint64_t, kCalamities> calamities{};
  std::array<std::uint64_t, static_cast<std::size_t>(protocol::Drop::kCount)> drops{};
  std::array<std::uint64_t, protocol::kMessageTypes> messages{};  // that reached the core
  std::array<std::uint64_t, protocol::kEvents> protocol_events{};

  void add(Counter counter, std::uint64_t by = 1) { of[static_cast<std::size_t>(counter)] += by; }
  std::uint64_t operator[](Counter counter) const { return of[static_cast<std::size_t>(counter)]; }
  void add(const Counters& other);
};

}  // namespace pagewire::sim
