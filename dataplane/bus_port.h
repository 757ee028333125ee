// One device on a medium that all nodes share: a network interface by AF_PACKET, a NIC, any device of DPDK's.
// One transmission reaches every node; a page travels as fragments. Threads as for every port, see port.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/port.h"
#include "protocol/types.h"

namespace pagewire::dataplane {

struct BusOptions {
  // "af_packet:IFACE", "eal:net_NAME,key=value,…" or a PCI address as 0000:00:05.0.
  std::string device;
  protocol::NodeId node = {};
  std::uint32_t node_count = 0;  // 1..kNodesMax
  std::uint16_t queue_count = 1;
  std::uint32_t cluster_id = 0;      // its low bits choose the multicast address: 03:50:57:xx:xx:xx
  std::uint32_t pool_frames = 2048;  // a queue
};

// Throws SetupError: no such interface or it is down, no right to it, a device that EAL refuses. A PCI device
// has to be among those that EAL was started with. With more than one queue a frame may come in on any of
// them.
std::unique_ptr<Port> open_bus_port(std::shared_ptr<Eal> eal, const BusOptions& options);

// The PCI devices that EAL must be started with for `device`: itself if it is a PCI address, else none.
std::vector<std::string> pci_devices_of(const std::string& device);

}  // namespace pagewire::dataplane
