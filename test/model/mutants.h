// The rules switched off one by one (protocol/rules.h): what the checker finds for each, and in which bounds.
// For the build //protocol:switchable alone. Single-threaded.
#pragma once

#include <span>
#include <string>

#include "protocol/rules.h"
#include "test/model/explore.h"

namespace pagewire::model {

struct Ground {
  const char* name;
  Bounds bounds;
};
// The bounds in which mutants are looked for, the smallest first; without a mutant each is complete and
// sound.
std::span<const Ground> grounds();

struct Caught {
  const Ground* ground = nullptr;  // none: not caught in any
  Report report;
};
// The first ground in which the cluster without this rule breaks; with `only_coherence`, in which one of I1
// to I6 falls, whatever single steps complain of.
Caught catch_mutant(protocol::Rule rule, bool only_coherence);

}  // namespace pagewire::model
