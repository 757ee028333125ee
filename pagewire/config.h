// A cluster's description: read from a TOML file, or filled in by code. docs/configuration.md lists every
// key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pagewire {

// One node of the cluster.
struct NodeDescription {
  std::uint32_t id = 0;  // 0..63, each once; ids are 0..n-1 in any order
  // How its frames travel: "memif" (shared memory with the other processes of this machine),
  // "af_packet:IFACE" (any kernel interface), "eal:net_…,args" (any DPDK virtual device), or a PCI address
  // ("0000:00:05.0"). Either all nodes use memif or none does.
  std::string port = "memif";
};

// Faults of the network, made on purpose, to see how a service bears them. All zero: none.
struct Impairment {
  double drop = 0;       // share of frames lost, 0..1
  double duplicate = 0;  // share of frames doubled
  double reorder = 0;    // share of frames held back behind later ones
  std::uint64_t seed = 1;
};

enum class Hugepages : std::uint8_t { kAuto, kRequired, kOff };
enum class KernelFaults : std::uint8_t { kAuto, kRequired, kOff };

// Who takes a fault. kThread: a fault thread; complete, faults inside system calls included. kInline: the
// faulting thread itself, in its SIGBUS handler; the shortest way, but a fault inside a system call gives
// EFAULT (Region::hold() helps), and the service must leave SIGBUS to us, or chain to us.
enum class Delivery : std::uint8_t { kThread, kInline };

// Who drives a packet loop. kSelf: the threads that wait; the loop's thread never spins and serves other
// nodes while nobody of this one waits. kShared: the loop's thread, which spins a little without work,
// yields, sleeps; threads that wait drive it while it sleeps. kDedicated: the loop's thread, which spins
// long: for a core of its own.
enum class LoopKind : std::uint8_t { kShared, kDedicated, kSelf };

struct Config {
  std::string cluster = "pagewire";  // clusters of different names on one wire do not hear each other
  std::uint32_t node = 0;            // which one I am
  std::vector<NodeDescription> nodes;

  std::string
      folder;  // memif: private folder for the sockets; empty: $XDG_RUNTIME_DIR or /tmp, with cluster and uid
  std::string file_prefix;  // EAL's; empty: made from cluster and node

  std::uint32_t loops = 1;      // packet loops; pages are spread over them. The same on all nodes
  std::vector<int> loop_cores;  // one a loop; empty: they float
  LoopKind loop_kind = LoopKind::kSelf;
  Delivery delivery = Delivery::kThread;  // of regions that do not say
  bool real_time = true;                  // LoopKind::kSelf: the loop's thread asks for SCHED_FIFO 1
  bool scan_ahead = true;                 // ask ahead for pages that a scan will want: loads in equal steps
  bool hand_on =
      true;  // kInline: the one store of a turn is carried out in the handler, and the page goes on

  std::uint32_t memory_mb = 128;  // for DPDK's pools
  Hugepages hugepages = Hugepages::kAuto;
  KernelFaults kernel_faults = KernelFaults::kAuto;  // serve faults inside system calls, too
  std::uintptr_t region_base = 0x2000'0000'0000;     // where regions are mapped; the same on all nodes

  std::uint64_t join_timeout_ms = 30'000;    // until all nodes are there, and until all have opened a region
  std::uint64_t silence_timeout_ms = 5'000;  // a node not heard for so long is called silent
  std::uint64_t leave_timeout_ms = 1'000;    // at the end: until others have what they need of us
  std::uint64_t retry_us = 2'000;            // first repeat of an unanswered message; doubles each time
  std::uint64_t retry_max_us = 100'000;
  std::uint64_t hold_us = 20;  // a page that arrived is not given away before

  Impairment impairment;

  // Throws Error with file and line: unreadable, not TOML, unknown keys, wrong types, duplicate ids, values
  // out of range.
  static Config from_file(const std::string& path);
  // The same from text; `name` stands for the file in errors.
  static Config from_text(std::string_view text, const std::string& name);
  // N memif nodes on this machine, this one being `node`, with a folder of its own.
  static Config local(std::uint32_t node, std::uint32_t node_count, const std::string& folder);
  // Throws Error if something in it cannot be. from_file and Node's constructor call it.
  void validate() const;
};

}  // namespace pagewire
