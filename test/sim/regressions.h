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
};

inline constexpr std::array kRegressions = {
    Regression{
        52, 1'000,
        "with hold_us 0 and five writers of one page, each is given the page and loses it within the same "
        "transition: granted for ever, used never. The hold is what makes threads progress; where it is "
        "shorter than waking a thread takes, the simulator demands the grant alone"},
    Regression{1648, 1'000,
               "a node dies after it accepted a hand-over and passed it on: the hand-over's sender, whose "
               "acknowledgement was lost, repeats it to the dead for ever, beside the owner that there is"},
};

}  // namespace pagewire::sim
