// What must be true of every state of the cluster, whatever led to it. Pure; any thread.
#pragma once

#include <cstdint>

#include "test/model/universe.h"

namespace pagewire::model {

// The life in which the newest nodes are; the others have not restarted yet.
std::uint8_t newest_life(const Bounds& bounds, const Universe& universe, const State& state);

// I1 to I4 for each page, among the nodes of the newest life, and stronger things of which they follow (S1 to
// S4, not with only_coherence). Complaint or nullptr.
const char* check(const Bounds& bounds, const Universe& universe, const State& state);

// Nothing is under way at any node, and nobody waits.
bool at_rest(const Bounds& bounds, const Universe& universe, const State& state);

}  // namespace pagewire::model
