// What a bench asks of its processes: the nodes of a cluster step by step together, and the two processes of
// the floors. The process that starts them; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bench/group.h"
#include "pagewire/config.h"

namespace pagewire::bench {

struct Setting {
  Delivery delivery = Delivery::kThread;
  LoopKind loops = LoopKind::kShared;
  auto operator<=>(const Setting&) const = default;
};
const char* name_of(Delivery delivery);
const char* name_of(LoopKind loops);

struct Task {
  std::size_t node = 0;
  Json message;  // see node_member.h
};

// How long a node keeps what it got; see Config.
struct Turns {
  std::uint64_t hold_us = Config().hold_us;
  bool hand_on = Config().hand_on;
};

class Cluster {
 public:
  // Returns when all nodes have joined. `folder` is new, one level below the group's.
  Cluster(ProcessGroup& processes, const std::string& folder, const Setting& setting, std::size_t node_count,
          const Turns& turns);
  // All nodes leave.
  void end();

  // Node 1 owns the pages. A second call for a region does nothing.
  void open(const std::string& region, std::size_t page_count);
  // The tasks' nodes work, at the same time; nodes that are `resting` wait outside of Pagewire; all others
  // are in node.barrier() from before the first task begins. It ends when all have met there. Gives each
  // node's answer.
  std::vector<Json> phase(const std::vector<Task>& tasks, const std::set<std::size_t>& resting = {});
  // One node works, all others wait outside of Pagewire.
  Json ask(std::size_t node, const Json& message);
  // Between phases: all processes stand still, whatever their loops' threads would do.
  void pause();
  void resume();

 private:
  ProcessGroup& processes_;
  std::vector<std::size_t> nodes_;  // process by node
  std::set<std::string> regions_;
};

using FloorTimes = std::map<std::string, std::vector<std::uint64_t>>;

class FloorPair {
 public:
  explicit FloorPair(ProcessGroup& processes);
  void end();
  // The floors by the names of floor_member.h, `count` times each, and "line".
  FloorTimes measure(const std::vector<std::string>& floors, std::size_t count);

 private:
  ProcessGroup& processes_;
  std::vector<std::size_t> members_;
};

}  // namespace pagewire::bench
