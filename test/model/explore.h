// The exhaustive check: breadth-first over all interleavings of a small cluster that runs the real transition
// functions. The network is the set of all messages ever sent: any may be delivered at any time, in any
// order, any number of times, or never. Single-threaded; the caller's thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "test/model/cell.h"

namespace pagewire::model {

// Makes a defect: changes what a step did, to show that the check sees it.
using Tamper = std::function<void(const NodeCell& before, const Action& action, Step& step)>;

struct Report {
  bool complete = false;  // all states within the bounds were seen
  std::size_t states = 0;
  std::size_t edges = 0;
  std::size_t node_states = 0;
  std::size_t messages = 0;  // different ones
  std::size_t depth = 0;     // steps from the start to the farthest state
  std::size_t stuck = 0;     // I6: states from which the system cannot come to rest
  std::string violation;     // empty: none
  std::string path;          // the shortest way to the violation, to read

  std::string summary() const;
};

// Stops at the first violation. I6 is looked at when all states are known.
Report explore(const Bounds& bounds, const Tamper& tamper = {});

}  // namespace pagewire::model
