// Who is in the cluster, as the loops need it for each frame: lock-free to read, written by the control
// plane's loop.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "protocol/types.h"

namespace pagewire::dataplane {

struct Membership {
  std::uint32_t cluster = 0;
  protocol::NodeId self{};
  std::uint32_t node_count = 0;
  std::uint64_t boot_id = 0;  // ours; grows from one life to the next
  std::uint32_t view = 1;

  std::atomic<bool> joined{false};  // until then a node may come back with a later boot id
  std::array<std::atomic<std::uint64_t>, protocol::kNodesMax> boot_ids{};       // 0: not heard yet
  std::array<std::atomic<std::uint64_t>, protocol::kNodesMax> last_heard_ns{};  // any good frame

  protocol::NodeSet members() const { return protocol::NodeSet::first(node_count); }
};

}  // namespace pagewire::dataplane
