// What a node has done and seen; plain values, taken without stopping anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace pagewire {

// Time from the moment Pagewire heard of the fault until the page was mapped.
struct Latency {
  std::uint64_t count = 0;
  std::uint64_t p50_ns = 0;
  std::uint64_t p90_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t max_ns = 0;
};

struct NamedCount {
  std::string name;
  std::uint64_t count = 0;
};

struct Stats {
  // Faults by kind. Those that needed no message (a page of our own touched for the first time) are in local.
  Latency read_miss;   // the page was absent, a load
  Latency write_miss;  // the page was absent, a store
  Latency upgrade;     // the page was here to read, a store
  Latency local;

  std::uint64_t sent_message_count = 0;    // protocol messages about pages; a multicast is one
  std::vector<NamedCount> sent_messages;   // the same by type
  std::uint64_t sent_frame_count = 0;      // frames that left (node.stats() only)
  std::uint64_t sent_multicast_count = 0;  // of them: one transmission to all nodes
  std::uint64_t sent_bytes = 0;            // page messages with their headers (region), frames (node)
  std::uint64_t received_message_count = 0;

  std::uint64_t waiting_fault_count = 0;    // pages that threads of this node wait for now
  std::vector<std::uint32_t> silent_nodes;  // not heard for silence_timeout_ms
  std::vector<NamedCount> dropped_frames;   // by reason; only reasons that occurred
  std::vector<NamedCount> events;           // of the protocol; only those that occurred

  std::size_t fixed_bytes = 0;  // memory of this node apart from regions and page tables
  std::size_t page_table_bytes = 0;
};

}  // namespace pagewire
