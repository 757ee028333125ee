// Figure and floor in turns: a chunk of floors, a chunk of the case, a chunk of floors, and so on. The
// process that starts the others; one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bench/cases.h"
#include "bench/cluster.h"
#include "bench/figure.h"

namespace pagewire::bench {

struct Limits {
  std::size_t floor_count = 0;  // of each floor in a chunk
  std::uint64_t case_ns = 0;    // no chunk is begun after
};

// What was measured of one case in one setting; grows with every repetition.
class Measured {
 public:
  Measured(CaseSpec spec, Setting setting) : spec_(std::move(spec)), setting_(setting) {}

  // Runs the case in a cluster that stands still before and after. A chunk is dropped, and another one run,
  // if beside it the floor or the cache line's round trip was more than 1.5 times off the median of these
  // runs, or if the node counted other faults.
  void run(Cluster& cluster, FloorPair& floors, const Sizes& sizes, const Limits& limits);
  Figure figure() const;
  const FloorTimes& floors() const { return floor_times_; }  // of chunks that were kept

 private:
  struct Pass;

  void keep(const Pass& pass, std::size_t wanted);

  CaseSpec spec_;
  Setting setting_;
  std::vector<Chunk> chunks_;
  FloorTimes floor_times_;
  std::size_t dropped_ = 0;
  std::size_t miscounted_ = 0;
  std::vector<std::uint64_t> lines_ns_;  // of each pass: first, last
  std::vector<std::string> warnings_;
  Json phases_ = Json::array();
};

// The name and the p50 of the floor that stands against a case; 0 if there is none.
struct Floor {
  std::string name;
  std::uint64_t p50_ns = 0;
};
Floor floor_of(FloorKind kind, Delivery delivery, const FloorTimes& times);
// The floors to measure for it.
std::vector<std::string> floors_needed(FloorKind kind, Delivery delivery);

}  // namespace pagewire::bench
