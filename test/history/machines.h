// Histories by simulated memories: a strong one, and two with defects of the kind that a shared memory
// between machines might have. And the checks by trying all orders, for small histories. Pure, by a seed.
#pragma once

#include <cstdint>

#include "test/history/history.h"

namespace pagewire::history {

enum class Memory : std::uint8_t {
  kStrong,          // one operation at a time
  kStoreBuffers,    // a client's plain writes reach the others late, though in order
  kLateInvalidate,  // a client may go on reading a copy of a word after another has written it
};

struct Load {
  Memory memory = Memory::kStrong;
  std::uint32_t clients = 3;
  std::uint32_t words = 4;
  std::uint32_t operations = 1000;   // together
  std::uint32_t plain_percent = 50;  // of the writes; the others are exchanges
};

// Its operations overlap in time as they might between processors, each taking effect within its own time.
History simulate(const Load& load, std::uint64_t seed);

// A small history of random operations whose reads return any value that somebody writes to that word.
History random_history(std::uint64_t seed);

// Makes a read of the history return what its client had seen in that word before what it saw last. False if
// there is none.
bool make_one_read_go_back(History& history, std::uint64_t seed);

// By plain memory and all interleavings; exponential. Nothing of history.cc is used.
bool is_sequential_by_trying(const History& history);
bool is_linearizable_by_trying(const History& history);

}  // namespace pagewire::history
