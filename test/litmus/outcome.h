// What one run of a shape has shown: each register, then (for shapes with finals) what each variable holds
// at the end. Pure; any thread.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>

#include "test/litmus/shapes.h"

namespace pagewire::litmus {

// A value that no store of this run wrote: out of thin air, torn, or left over from an earlier batch.
inline constexpr std::uint8_t kGarbage = 15;

struct Outcome {
  std::array<std::uint8_t, kRegistersMax> registers{};
  std::array<std::uint8_t, kVariablesMax> finals{};  // all 0 for shapes without finals

  friend auto operator<=>(const Outcome&, const Outcome&) = default;
};

// "r0=1 r1=0 x=2"; "?" for garbage.
std::string to_text(const Shape& shape, const Outcome& outcome);

}  // namespace pagewire::litmus
