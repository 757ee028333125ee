// A port that loses, doubles and reorders, by a seed: put before any other for tests. What it does to a frame
// is decided when the frame is received, from the seed, the queue and how many frames came before: the same
// seed and sequence give the same decisions. Threads as for every port, see port.h.
#pragma once

#include <cstdint>
#include <memory>

#include "dataplane/port.h"

namespace pagewire::dataplane {

struct Impairment {
  double drop = 0;  // each a share, 0..1, of the frames received
  double duplicate = 0;
  double reorder = 0;  // comes 1..8 frames later, but no later than hold_ns
  std::uint64_t seed = 1;
  std::uint64_t hold_ns = 200'000;
};

struct ImpairmentCounters {
  std::uint64_t seen_count = 0;
  std::uint64_t dropped_count = 0;
  std::uint64_t duplicated_count = 0;
  std::uint64_t reordered_count = 0;
};

class ImpairedPort : public Port {
 public:
  virtual std::uint64_t seed() const = 0;
  virtual ImpairmentCounters impairments(std::uint16_t queue) const = 0;  // any thread
};

// Throws SetupError if a share is not within 0..1.
std::unique_ptr<ImpairedPort> make_impaired_port(std::unique_ptr<Port> inner, const Impairment& impairment);

}  // namespace pagewire::dataplane
