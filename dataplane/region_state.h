// A region as the data plane sees it: its memory, its page table, and what each loop counts about it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/counter.h"
#include "dataplane/histogram.h"
#include "dataplane/page_table.h"
#include "fault/region_memory.h"
#include "protocol/control.h"
#include "protocol/message.h"

namespace pagewire::dataplane {

enum class FaultKind : std::uint8_t { kReadMiss, kWriteMiss, kUpgrade, kLocal };
inline constexpr std::size_t kFaultKinds = 4;

// Written by one loop, read by anybody.
struct alignas(64) RegionCounters {
  std::array<Histogram, kFaultKinds> latency;  // from the fault's arrival here until it is mapped
  std::array<Counter, protocol::kMessageTypes> sent_messages;  // by type; one multicast is one
  Counter sent_bytes;                                          // frames of these messages, with all headers
  Counter received_messages;
  Counter waiting;  // faults that threads wait for now
};

struct RegionState {
  RegionState(const protocol::RegionDeclaration& declaration, std::uintptr_t base,
              fault::KernelFaults kernel_faults, fault::Delivery delivery, protocol::NodeId self,
              std::uint32_t node_count, std::uint32_t loop_count)
      : id(declaration.id),
        name(declaration.name_view()),
        bytes(declaration.bytes),
        memory(name, base + declaration.offset, page_count_of(bytes) * fault::kPageBytes, kernel_faults,
               delivery),
        pages(memory.page_count(),
              [&](std::size_t page) {
                const auto owner = protocol::initial_owner(
                    declaration.placement, protocol::NodeId{declaration.placement_node}, node_count,
                    static_cast<std::uint32_t>(page), static_cast<std::uint32_t>(page_count_of(bytes)));
                return protocol::initial_entry(self, owner, declaration.placement);
              }),
        counters(loop_count) {}

  static std::size_t page_count_of(std::size_t bytes) {
    return (bytes + fault::kPageBytes - 1) / fault::kPageBytes;
  }

  std::uint32_t id;
  std::string name;
  std::size_t bytes;  // as declared
  fault::RegionMemory memory;
  PageTable pages;
  std::vector<RegionCounters> counters;  // one a loop
};

// Which loop works on a page: neighbours share a loop, so that bursts stay together. The same on every node.
inline constexpr std::uint32_t kPagesPerShard = 16;
constexpr std::uint32_t loop_of(std::uint32_t page, std::uint32_t loop_count) {
  return page / kPagesPerShard % loop_count;
}

}  // namespace pagewire::dataplane
