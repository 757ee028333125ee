// One line of fault_latency's table. A plain value.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/cluster.h"
#include "bench/samples.h"

namespace pagewire::bench {

struct Figure {
  std::string name;
  std::optional<Setting> setting;  // absent: a floor
  std::size_t node_count = 0;
  std::string kind = {};  // of its faults, as in Stats; empty: several
  Quantiles times;
  std::string floor;  // what it is made of; empty: none
  std::uint64_t floor_p50_ns = 0;

  // Where the case has it.
  std::optional<std::uint64_t> rest_ms;
  std::optional<double> gb_per_s;
  std::optional<double> hand_overs_per_s;
  std::optional<std::uint64_t> longest_wait_ns;
  std::optional<std::array<double, 2>> stores_per_s;
  std::optional<std::uint64_t> shootdown_p50_ns;  // the owner's zap of one mapped page, in this run
  std::optional<double> idle_cpu_share;           // of one core, by the busier node while both rest

  std::size_t dropped_chunks = 0;  // the machine moved, or other faults were measured: measured again
  std::optional<std::uint64_t> line_before_ns;
  std::optional<std::uint64_t> line_after_ns;
  std::vector<std::string> warnings;
  Json phases = Json::array();  // of node 0's faults in the last repetition, as its stats() give them

  double ratio() const { return static_cast<double>(times.p50_ns) / static_cast<double>(floor_p50_ns); }
  bool has_floor() const { return floor_p50_ns > 0; }
};

}  // namespace pagewire::bench
