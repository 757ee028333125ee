// Per-word linearizability: is there for each word one order of its operations that a plain word of memory
// explains, and in which whatever ended before something else began comes first? Exact, in n log n, by
// the zones of Gibbons and Korach (Testing Shared Memories, 1997) over the clusters of history.h. It trusts
// the clock, which the check of sequential.h does not. Pure; one thread at a time.
//
// A cluster's zone reaches from the first response in it to the last invocation in it. An order exists
// exactly if within each cluster nothing ended before what must precede it began, and no two clusters each
// hold an operation that ended before one of the other began.
#pragma once

#include <string>

#include "test/history/history.h"

namespace pagewire::history {

struct Linearizability {
  Verdict verdict = Verdict::kHolds;  // never kUndecided
  std::string explanation;            // if violated: the operations that show it, as lines
};

Linearizability check_linearizable(const Resolved& resolved);

// Pairs of operations on one word by different clients of which one ended before the other began: what the
// clock says beyond each client's own order.
std::uint64_t count_real_time_pairs(const Resolved& resolved);

}  // namespace pagewire::history
