// Many seeds one after the other, and reports as text and JSON. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "test/sim/simulator.h"

namespace pagewire::sim {

struct Batch {
  std::uint64_t first_seed = 1;
  std::uint64_t last_seed = 1;
  std::uint64_t steps = 1'000;  // of each seed's first phase
  double seconds_max = 0;       // no seed is begun later than that; 0: no such bound
};

struct BatchReport {
  std::uint64_t seeds = 0;
  std::uint64_t steps = 0;  // of all phases
  double seconds = 0;
  double heal_share_max = 0;  // the longest healing, as a share of what is allowed
  std::uint64_t worst_wait_ns = 0;
  std::uint64_t worst_wait_seed = 0;
  Counters counters;
  std::optional<Report> broken;  // the first run with a violation, with which the batch ended
};

BatchReport run_batch(Simulator& simulator, const Batch& batch);

// The command that replays a run; `options` come before the seed.
std::string replay_command(const Report& report, const std::string& options = "");
std::string describe(const Report& report);
std::string describe(const Counters& counters);
std::string describe(const BatchReport& report);
std::string to_json(const Report& report);
std::string to_json(const BatchReport& report);

}  // namespace pagewire::sim
