// A mesh of nodes within one process, over DPDK's net_ring: for tests of the real loop without a second
// process. Each port belongs to one node, that is to one set of loop threads, as any other port.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/port.h"

namespace pagewire::dataplane {

struct RingMeshOptions {
  std::uint32_t ring_frames = 512;   // a power of two: what waits between two queues
  std::uint32_t pool_frames = 1024;  // a queue
};

// Port i is node i's. A frame sent goes on as the same mbuf and goes back to its sender's pool: nobody may
// hold one when the last port of the mesh is destroyed. Ports can be closed and destroyed in any order.
// Throws SetupError.
std::vector<std::unique_ptr<Port>> make_ring_mesh(const std::shared_ptr<Eal>& eal, std::uint32_t node_count,
                                                  std::uint16_t queue_count,
                                                  const RingMeshOptions& options = {});

}  // namespace pagewire::dataplane
