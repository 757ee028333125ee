// Whether a frame concerns this node, in this life and this membership, at all (R11): decided before anything
// of it is looked at. Pure; any thread.
#pragma once

#include <cstdint>

#include "protocol/types.h"
#include "protocol/wire.h"

namespace pagewire::protocol {

// What the node that hears a frame is.
struct Listener {
  NodeId self{};
  std::uint32_t node_count = 0;
  std::uint32_t cluster = 0;
  std::uint32_t view = 0;
  bool joined = false;  // until all have met, a node may come back in a newer life
};

// kNone, or why the frame is to be dropped. `known_boot`: the life of the sender that we know, 0 if none. A
// beat of a newer life is let in before all have joined; whoever takes it makes that life the known one.
Drop admit(const Listener& here, const Header& header, std::uint64_t known_boot);

}  // namespace pagewire::protocol
