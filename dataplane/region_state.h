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
#include "dataplane/phases.h"
#include "dataplane/scan_detector.h"
#include "fault/region_memory.h"
#include "protocol/control.h"
#include "protocol/message.h"

namespace pagewire::dataplane {

// Written by one loop, read by anybody.
struct alignas(64) RegionCounters {
  std::array<Histogram, kFaultKinds> latency;  // from the fault's arrival here until it is mapped
  std::array<Counter, protocol::kMessageTypes> sent_messages;  // by type; one multicast is one
  Counter sent_bytes;                                          // frames of these messages, with all headers
  Counter received_messages;
  Counter waiting;  // faults that threads wait for now
  // Pages that were asked for ahead of need: came in time and were used, were waited for, were taken away
  // unused.
  Counter ahead_useful;
  Counter ahead_late;
  Counter ahead_useless;
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
        counters(loop_count),
        phases(phases_for(loop_count, delivery)),
        scans(loop_count, ScanDetector(static_cast<std::uint32_t>(pages.size()))) {}

  static std::size_t page_count_of(std::size_t bytes) {
    return (bytes + fault::kPageBytes - 1) / fault::kPageBytes;
  }

  static std::vector<RegionPhases> phases_for(std::uint32_t loop_count, fault::Delivery delivery) {
    std::vector<RegionPhases> phases;
    for (std::uint32_t i = 0; i < loop_count; ++i) phases.emplace_back(delivery);
    return phases;
  }
  // Of what the loops count here, page table aside.
  std::size_t counter_bytes() const {
    std::size_t bytes = counters.size() * sizeof(RegionCounters);
    for (const RegionPhases& of_loop : phases) bytes += sizeof(of_loop) + of_loop.memory_bytes();
    return bytes;
  }

  std::uint32_t id;
  std::string name;
  std::size_t bytes;  // as declared
  fault::RegionMemory memory;
  PageTable pages;
  std::vector<RegionCounters> counters;  // one a loop
  std::vector<RegionPhases> phases;      // likewise
  std::vector<ScanDetector> scans;       // likewise; whoever drives it
};

// Which loop works on a page: neighbours share a loop, so that bursts stay together. The same on every node.
inline constexpr std::uint32_t kPagesPerShard = 16;
constexpr std::uint32_t loop_of(std::uint32_t page, std::uint32_t loop_count) {
  return page / kPagesPerShard % loop_count;
}

}  // namespace pagewire::dataplane
