// What fault_latency found, as a table for people and as JSON for programs. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/samples.h"

namespace pagewire::bench {

struct Figure {
  std::string name;
  Quantiles times;
  // Of a case; a floor has none. The floor is what has to happen at the least: a local fault and the frames
  // to and fro.
  std::string floor = {};
  std::uint64_t floor_p50_ns = 0;
  // The median by the node's own statistics, to the 3 % of their buckets: from the moment the fault thread
  // has read the fault until the page is mapped. The rest is the kernel's delivery, and waking the thread.
  std::uint64_t node_p50_ns = 0;
};

struct Report {
  std::vector<Figure> figures;
  std::uint32_t node_count = 0;
  std::uint32_t loop_count = 0;
  std::uint64_t hold_us = 0;
  std::optional<std::uint64_t> line_before_ns;
  std::optional<std::uint64_t> line_after_ns;
  std::vector<std::string> warnings;  // that the machine did not hold still, and the like
};

std::string text_of(const Report& report);
// An array with an object for each figure.
std::string json_of(const Report& report);

}  // namespace pagewire::bench
