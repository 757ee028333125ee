// The exhaustive check: breadth-first over all interleavings of a small cluster that runs the real transition
// functions. The network is the set of all messages ever sent: any may be delivered at any time, in any
// order, any number of times, or never. Single-threaded; the caller's thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "test/model/cell.h"
#include "test/model/universe.h"

namespace pagewire::model {

// One step of the way to a violation, with the names that nodes had at the start.
struct PathStep {
  Action::Kind kind = Action::Kind::kReadFault;
  protocol::NodeId node{};  // who took it
  Envelope envelope{};      // kDeliver
  std::string text;
  std::vector<std::string> nodes;  // each node after it, to read
};

struct Report {
  bool complete = false;  // all states within the bounds were seen
  std::size_t states = 0;
  std::size_t edges = 0;
  std::size_t node_states = 0;
  std::size_t messages = 0;      // different ones
  std::size_t depth = 0;         // steps from the start to the farthest state
  std::size_t stuck = 0;         // I6: states from which the system cannot come to rest
  std::size_t deadlocks = 0;     // states not at rest in which nothing can happen
  std::size_t memory_bytes = 0;  // of the tables
  double seconds = 0;
  double cpu_seconds = 0;
  std::string violation;       // empty: none
  std::vector<PathStep> path;  // the shortest way to the violation; the first is the start

  std::string summary() const;
  // States, edges and depth, short.
  std::string figure() const;
  std::string path_text() const;
  // The path as a Mermaid sequence diagram.
  std::string mermaid() const;
};

struct Options {
  Tamper tamper{};
  double seconds_max = 1e9;                       // then it stops, not complete
  std::function<void(const Report&)> progress{};  // now and then, with what is known so far
};

// Stops at the first violation. I6 is looked at when all states are known.
Report explore(const Bounds& bounds, const Options& options = {});

}  // namespace pagewire::model
