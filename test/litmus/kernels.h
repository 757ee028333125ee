// The threads of the shapes as compiled code: for each shape, thread and order a loop over the instances of a
// batch, with std::atomic_ref operations whose order is known to the compiler. Any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "test/litmus/random.h"
#include "test/litmus/scaffold.h"
#include "test/litmus/shapes.h"

namespace pagewire::litmus {

// A word is the tag of its batch and a value: what an older batch left behind is recognised.
inline constexpr std::uint32_t kValueBits = 4;
constexpr std::uint32_t tag_of(std::uint64_t batch) {
  return static_cast<std::uint32_t>(batch + 1) << kValueBits;
}

// What one thread of a shape does in one batch. Instance i of variable v is variables[v][i * stride].
struct ThreadRun {
  std::array<std::uint32_t*, kVariablesMax> variables{};
  std::size_t stride = 1;
  std::array<std::uint32_t*, kRegistersMax> registers{};  // [i]: what instance i loaded
  std::uint32_t tag = 0;
  std::size_t instance_count = 0;           // a power of two
  std::size_t start = 0;                    // the first instance
  std::size_t step = 1;                     // odd, so that all come up once
  std::uint32_t pause_mask = 0;             // before an instance: a random number of pauses up to this
  std::uint32_t gap_mask = 0;               // the same between operations of an instance
  std::size_t meet_mask = ~std::size_t{0};  // all threads meet before each instance whose turn has none of it
  std::uint32_t meet_gap_mask = 0;          // the gap in those instances
  Barrier* barrier = nullptr;
  Random random{0};
};

using Kernel = void (*)(const ThreadRun& run);
Kernel kernel_for(std::size_t shape, std::size_t thread, Order order);

}  // namespace pagewire::litmus
