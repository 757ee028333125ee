// The cases of fault_latency, each as what the nodes do for one chunk of it. The process that starts the
// nodes; one thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/cluster.h"

namespace pagewire::bench {

struct Sizes {
  std::size_t pages = 0;  // faults wanted of each kind
  std::size_t scan_pages = 0;
  std::size_t ahead_pages = 0;  // of scan_prefetch
};

// What one chunk gave.
struct Chunk {
  std::vector<std::uint64_t> ns;
  std::uint64_t elapsed_ns = 0;  // of the next three
  std::uint64_t bytes = 0;
  std::uint64_t hand_overs = 0;
  std::array<std::uint64_t, 2> stores{};  // of each side
  std::uint64_t longest_wait_ns = 0;
  std::uint64_t idle_cpu_ns = 0;  // of the node that used more
  std::uint64_t idle_elapsed_ns = 0;
  std::vector<std::uint64_t> shootdown_ns;
  bool miscounted = false;  // the node counted other faults than those that were to be measured
};

// A case at work in a cluster: any number of chunks, one after the other.
class Case {
 public:
  virtual ~Case() = default;
  virtual Chunk run_chunk() = 0;
  virtual const std::string& region() const = 0;
};

enum class FloorKind : std::uint8_t { kPage, kSmall, kScan };  // what has to cross at the least

struct CaseSpec {
  std::string name;
  std::uint64_t rest_ms = 0;  // 0: none
  std::size_t node_count = 2;
  FloorKind floor = FloorKind::kPage;
  std::size_t chunk_count = 0;
  std::string kind;  // of fault, as in Stats; empty: several
};

// Names, for --cases; in the order of the table.
const std::vector<std::string>& case_names();
// Those of that name (first_after_rest: one for each rest).
std::vector<CaseSpec> case_specs(const std::string& name, const Sizes& sizes);
std::unique_ptr<Case> start_case(const CaseSpec& spec, const Sizes& sizes, Cluster& cluster);

}  // namespace pagewire::bench
