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

// One part of the way of a fault. The parts add up, fault by fault; their quantiles need not.
struct PhaseLatency {
  std::string name;
  Latency latency;
};

// Where the time of the faults of one kind goes, in order:
//   post     from the fault until Pagewire worked on it
//   send     until the request was handed to the device, the first time if it was repeated
//   wire     until the answer was complete here, without the other node's part
//   service  the other node's part, as it measured it: from the request to the answer that completed it
//   map      until the page was mapped
//   resume   until the thread goes on (inline delivery; with thread delivery the kernel wakes it, unseen)
//   total    all of it
// A fault that needed no request (kind "local") has its total alone. Of a page that was under way already
// when the thread faulted, send is 0 and wire what was left to wait.
struct KindPhases {
  std::string kind;                  // "read_miss", "write_miss", "upgrade", "local"
  std::uint64_t repeated_count = 0;  // requests sent again: nobody answered, or not the owner
  std::vector<PhaseLatency> phases;
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
  std::vector<KindPhases> phases;  // all kinds, also those that did not occur

  std::uint64_t sent_message_count = 0;    // protocol messages about pages; a multicast is one
  std::vector<NamedCount> sent_messages;   // the same by type
  std::uint64_t sent_frame_count = 0;      // frames that left (node.stats() only)
  std::uint64_t sent_multicast_count = 0;  // of them: one transmission to all nodes
  std::uint64_t sent_bytes = 0;            // page messages with their headers (region), frames (node)
  std::uint64_t received_message_count = 0;

  std::uint64_t waiting_fault_count = 0;  // pages that threads of this node wait for now
  std::uint64_t handed_on_count =
      0;                      // pages that went on with the one store of their turn (node.stats() only)
  std::uint64_t spun_ns = 0;  // processor time of threads that looked for work of a loop and found none:
                              // spins whole, of each yield the call itself (1 us) at most; an estimate
  std::vector<std::uint32_t> silent_nodes;  // not heard for silence_timeout_ms
  std::vector<NamedCount> dropped_frames;   // by reason; only reasons that occurred
  std::vector<NamedCount> events;           // of the protocol; only those that occurred

  std::size_t fixed_bytes = 0;  // memory of this node apart from regions, page tables and their counters
  std::size_t page_table_bytes = 0;
  std::size_t counter_bytes = 0;  // memory of what is counted about regions
};

}  // namespace pagewire
