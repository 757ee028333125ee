// Sequential consistency: is there one order of all operations that keeps each client's own and that plain
// memory explains? Exact, and no clock is trusted. Pure; one thread at a time.
//
// First what must be is derived (order.h); a cycle settles it: violated. Else an order is built, client by
// client. Most steps have no alternative worth trying: a read of the present value, an exchange that nobody
// else can precede, a write that nobody read. What is left, which write comes next, is tried in the order
// of the clock, which may be wrong and then only costs time. Where each client stands says all about what
// can follow, so no such place is tried twice, and with k clients of n operations there are at most (n/k +
// 1)^k. The order that was found is played through plain memory before anybody is told that all is well.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "test/history/history.h"

namespace pagewire::history {

struct SequentialConsistency {
  Verdict verdict = Verdict::kHolds;
  std::string explanation;          // unless it holds
  std::vector<Index> order;         // if it holds: all operations, in an order that explains them
  std::uint64_t cluster_edges = 0;  // orders of two writes of a word that were derived
  std::uint32_t rounds = 0;         // until nothing new followed
  std::uint64_t choices = 0;        // places of the search at which there was more than one way on
  std::uint64_t dead_ends = 0;      // of them: those from which no way led to the end
};

struct Effort {
  std::uint64_t dead_ends_max = 4'000'000;  // beyond so many: kUndecided; each costs a few dozen bytes
  bool derive = true;                       // false: by search alone, for tests
};

SequentialConsistency check_sequential(const Resolved& resolved, const Effort& effort = {});

// Whether plain memory, doing the operations in this order, gives each what it read, and each client's are in
// its own order. Knows nothing of clusters.
bool replays(const Resolved& resolved, const std::vector<Index>& order);

}  // namespace pagewire::history
