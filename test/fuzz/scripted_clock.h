// A steady clock that stands still until a fuzz target moves it: time-outs come when the input says so, and a
// replay sees the same times. The library's target gives the linker --wrap for
// std::chrono::steady_clock::now(); only code that is linked statically is under it. Any thread.
#pragma once

#include <cstdint>

namespace pagewire::test {

// From here on the clock stands at `ns`, which is not 0.
void set_clock(std::uint64_t ns);
// From here on it is the machine's again.
void release_clock();

}  // namespace pagewire::test
