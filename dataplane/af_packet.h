// What net_af_packet leaves to be done: its arguments for an interface, and its sockets, which it keeps to
// itself but which alone can wake a loop, tell whether a send would block, and keep the interface's other
// traffic away. Setting up. Source: packet(7), Documentation/networking/packet_mmap.rst of the Linux kernel.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/ethdev.h"

namespace pagewire::dataplane {

struct Interface {
  std::string name;
  int index = 0;
  std::uint32_t mtu = 0;
};

// Throws SetupError: no such interface, or it is down.
Interface find_interface(const std::string& name);

// The value for net_af_packet with `queue_count` queues.
std::string af_packet_arguments(const Interface& interface, std::uint16_t queue_count);

// The descriptors of this process's AF_PACKET sockets bound to the interface, lowest first.
std::vector<int> af_packet_sockets(const Interface& interface);

// From here on the socket takes frames of our EtherType alone, and joins the multicast group. Throws
// SetupError.
void narrow_af_packet_socket(int socket, const Interface& interface, const MacAddress& group);

}  // namespace pagewire::dataplane
