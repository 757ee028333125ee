// From a node's description to its port; not installed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "dataplane/port.h"
#include "pagewire/config.h"

namespace pagewire {

// Names the cluster on the wire.
std::uint32_t cluster_number(const std::string& name);

struct OpenedPort {
  std::unique_ptr<dataplane::Port> port;
  std::size_t memory_bytes = 0;  // at most: pools and rings take real memory as they are used
};

// Starts EAL if need be and opens the port of config.node. Throws fault::SetupError.
OpenedPort open_port(const Config& config);

}  // namespace pagewire
