// How a batch is run: who begins with which page, in which order and how fast each thread goes through the
// instances. Drawn from the seed alone, so every node draws the same. Pure; any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "test/litmus/shapes.h"

namespace pagewire::litmus {

enum class Touch : std::uint8_t { kNone, kLoad, kStore };

struct ThreadPlan {
  std::array<Touch, kVariablesMax> touches{};  // before the start, so that pages begin here or there
  std::size_t start = 0;
  std::size_t step = 1;
  std::uint32_t pause_mask = 0;
  std::uint32_t gap_mask = 0;
  std::uint32_t meet_gap_mask = 0;
  std::uint64_t seed = 0;
};

struct BatchPlan {
  std::array<std::uint8_t, kVariablesMax> resetters{};  // the node that sets a variable's instances to 0
  std::size_t meet_every = 1;                           // instances, a power of two
  std::uint8_t reader = 0;                              // the node that reads the final values
  std::array<ThreadPlan, kThreadsMax> threads{};
};

// `batch` counts within the case; `instance_count` is a power of two.
BatchPlan plan_batch(std::uint64_t seed, const Case& one, std::uint64_t batch, std::size_t instance_count);

}  // namespace pagewire::litmus
