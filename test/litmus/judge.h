// Which outcomes a program of atomic loads and stores may have: under sequential consistency, by trying all
// interleavings, and under C++20, by trying all executions against the rules of [intro.races] and
// [atomics.order]. Nothing here knows a litmus test by name. Pure; any thread.
//
// What the C++ half takes for an execution: whom each load reads from (rf), and an order of all stores to
// each variable, the initial value first (the modification order, mo). It is allowed if
//   * happens-before (program order, and a release store to the acquire load that reads it) has no cycle, and
//   * coherence: no event is coherence-ordered before one that happens before it, where
//   coherence-ordered-before
//     is the closure of rf, mo and from-reads;
//   * the seq_cst events have one total order that agrees with coherence-ordered-before and with
//     strongly-happens-before.
// Values out of thin air cannot come up: a store's value is a constant here. So load buffering with relaxed
// atomics is allowed, as the standard has it. Read-modify-writes, fences and consume are not covered.
#pragma once

#include <atomic>
#include <cstddef>
#include <set>
#include <vector>

#include "test/litmus/outcome.h"
#include "test/litmus/shapes.h"

namespace pagewire::litmus {

struct OrderedOp {
  Op op;
  std::memory_order order = std::memory_order_relaxed;
};

struct Program {
  std::vector<std::vector<OrderedOp>> threads;
  std::size_t variable_count = 0;
  bool finals = false;
};

Program program_of(const Shape& shape, Order order);

std::set<Outcome> sequentially_consistent_outcomes(const Program& program);
std::set<Outcome> cpp_outcomes(const Program& program);

// Every outcome whose values are 0 or stored to the variable somewhere: the lines of a histogram.
std::set<Outcome> conceivable_outcomes(const Program& program);

// All about one test that does not depend on a run.
struct Judgement {
  std::set<Outcome> conceivable;
  std::set<Outcome> sequentially_consistent;
  std::set<Outcome> cpp;  // includes the sequentially consistent ones

  bool allowed(const Outcome& outcome) const { return cpp.contains(outcome); }
  bool weak(const Outcome& outcome) const {
    return cpp.contains(outcome) && !sequentially_consistent.contains(outcome);
  }
};
Judgement judge(const Shape& shape, Order order);

}  // namespace pagewire::litmus
