// Which port a node's description means. Called once, while joining.
#include "pagewire/port_choice.h"

#include <algorithm>
#include <utility>

#include "dataplane/bus_port.h"
#include "dataplane/eal.h"
#include "dataplane/impaired_port.h"
#include "dataplane/memif_port.h"
#include "pagewire/config_rules.h"

namespace pagewire {

namespace {

constexpr std::uint32_t kPoolFrames = 2048;  // a loop
constexpr const char* kMemif = "memif";

// What a port takes: mbufs with their own fields and headroom, and the rings of memif's links, both
// directions.
std::size_t port_bytes(const Config& config, const std::string& device) {
  const std::size_t pools = std::size_t{config.loops} * kPoolFrames * (dataplane::kFrameRoomBytes + 256);
  if (device != kMemif) return pools;
  const std::size_t link =
      std::size_t{2} * config.loops * dataplane::MemifOptions{}.ring_frames * dataplane::kFrameRoomBytes;
  return pools + (config.nodes.size() - 1) * link;
}

std::shared_ptr<dataplane::Eal> start_eal(const Config& config, const std::string& device) {
  dataplane::EalOptions options;
  options.memory_mb = std::max(config.memory_mb, dataplane::eal_memory_mb(config.loops, kPoolFrames));
  options.hugepages = static_cast<dataplane::Hugepages>(config.hugepages);
  options.file_prefix = config.file_prefix;
  if (device != kMemif) options.pci_devices = dataplane::pci_devices_of(device);
  return dataplane::Eal::start(options);
}

std::unique_ptr<dataplane::Port> open_plain_port(const Config& config, const std::string& device) {
  auto eal = start_eal(config, device);
  const protocol::NodeId self{static_cast<std::uint8_t>(config.node)};
  const auto node_count = static_cast<std::uint32_t>(config.nodes.size());
  const auto queue_count = static_cast<std::uint16_t>(config.loops);
  if (device == kMemif) {
    dataplane::MemifOptions options;
    options.folder = folder_of(config);
    options.node = self;
    options.node_count = node_count;
    options.queue_count = queue_count;
    options.pool_frames = kPoolFrames;
    options.link_timeout_ns = config.join_timeout_ms * 1'000'000;
    return dataplane::open_memif_port(std::move(eal), options);
  }
  dataplane::BusOptions options;
  options.device = device;
  options.node = self;
  options.node_count = node_count;
  options.queue_count = queue_count;
  options.cluster_id = cluster_number(config.cluster);
  options.pool_frames = kPoolFrames;
  return dataplane::open_bus_port(std::move(eal), options);
}

}  // namespace

// FNV-1a, 32 bits (Fowler, Noll, Vo).
std::uint32_t cluster_number(const std::string& name) {
  std::uint32_t hash = 2166136261U;
  for (const char letter : name) {
    hash ^= static_cast<std::uint8_t>(letter);
    hash *= 16777619U;
  }
  return hash;
}

OpenedPort open_port(const Config& config) {
  const auto me = std::find_if(config.nodes.begin(), config.nodes.end(),
                               [&](const NodeDescription& node) { return node.id == config.node; });
  OpenedPort opened;
  opened.port = open_plain_port(config, me->port);
  opened.memory_bytes = port_bytes(config, me->port);
  const Impairment& wanted = config.impairment;
  if (wanted.drop > 0 || wanted.duplicate > 0 || wanted.reorder > 0) {
    dataplane::Impairment impairment;
    impairment.drop = wanted.drop;
    impairment.duplicate = wanted.duplicate;
    impairment.reorder = wanted.reorder;
    impairment.seed = wanted.seed + config.node;  // so that not all nodes lose the same frames
    opened.port = dataplane::make_impaired_port(std::move(opened.port), impairment);
  }
  return opened;
}

}  // namespace pagewire
