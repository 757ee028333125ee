// Seeds that once showed something, each with a sentence on what; sim_test runs them all. A seed means the
// same run only as long as the simulator draws the same numbers in the same order: who changes that finds
// the sentence's situation again by --seeds, or keeps it as a test of its own in test/protocol.
#pragma once

#include <array>
#include <cstdint>

namespace pagewire::sim {

struct Regression {
  std::uint64_t seed;
  std::uint64_t steps;
  const char* showed;
  bool calm = false;  // with make_calm()
};

inline constexpr std::array kRegressions = {
    Regression{325, 1'000,
               "a node dies after it accepted a hand-over and passed it on: the hand-over's sender, whose "
               "acknowledgement was lost, repeats it to the dead for ever, beside the owner that there is"},
    Regression{196, 1'000,
               "calm: a reader's request passes a node that only reads, too, but is given the fresh page, "
               "and reaches "
               "the first owner when that has handed it over: nobody remembered it",
               true},
};

}  // namespace pagewire::sim
