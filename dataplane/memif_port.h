// Nodes of one machine, each a process of the same user, linked by shared memory: net_memif, a device a pair.
// For nodes i < j, i is the server. A page goes in one frame. Threads as for every port, see port.h.
//
// A node that dies takes nobody with it: frames to it fill its rings and are then dropped and counted. It can
// come back only with all others, since the links are made once (see interrupt_park.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "dataplane/eal.h"
#include "dataplane/port.h"
#include "protocol/types.h"

namespace pagewire::dataplane {

struct MemifOptions {
  std::string folder;            // absolute; private (0700), created if absent; at most 80 characters
  protocol::NodeId node = {};    // who we are, below node_count
  std::uint32_t node_count = 0;  // 1..kNodesMax; the same on all nodes, as are the next two
  std::uint16_t queue_count = 1;
  std::uint32_t ring_frames = 1024;  // a power of two, 2..16384; a link takes 16 KiB a frame and queue
  std::uint32_t pool_frames = 2048;  // a queue
  std::uint64_t link_timeout_ns = 10'000'000'000;  // for all nodes to come
};

// Returns once all links are up. Throws SetupError: nodes that didn't come (named), a folder that is not
// private, a node that runs twice, nodes that differ in shape, no memory. Until the port is closed, no other
// memif port of this process can be opened, except those being opened at the same time on other threads.
// Closing leaves one inert descriptor for each link to a higher node: DPDK 22.11 never forgets the listening
// socket.
std::unique_ptr<Port> open_memif_port(std::shared_ptr<Eal> eal, const MemifOptions& options);

}  // namespace pagewire::dataplane
