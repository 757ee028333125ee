#include "test/model/mutants.h"

#include <array>

namespace pagewire::model {
namespace {

using protocol::Placement;
using protocol::Rule;

constexpr std::array<Ground, 11> kGrounds = {{
    {"2 nodes, 2 accesses", {.nodes = 2, .faults = 2, .stores = 1}},
    {"2 nodes, 3 accesses", {.nodes = 2, .faults = 3}},
    {"2 nodes, 2 accesses, new boot ids",
     {.nodes = 2, .faults = 2, .stores = 1, .restart = Restart::kNewBoot}},
    {"2 nodes, 2 accesses, new view", {.nodes = 2, .faults = 2, .stores = 1, .restart = Restart::kNewView}},
    {"3 nodes, 2 accesses, shared medium", {.nodes = 3, .faults = 2, .stores = 1, .overhear = true}},
    {"3 nodes, 2 accesses", {.nodes = 3, .faults = 2}},
    {"2 nodes, 4 accesses", {.nodes = 2, .faults = 4, .stores = 1}},
    {"2 nodes, 2 pages, 3 accesses, 2 rounds",
     {.nodes = 2, .pages = 2, .faults = 3, .stores = 1, .rounds = 2, .placement = Placement::kCyclic}},
    {"2 nodes, 2 accesses, hold", {.nodes = 2, .faults = 2, .stores = 1, .hold = true}},
    {"3 nodes, 3 accesses, in order, no repeats",
     {.nodes = 3, .faults = 3, .stores = 1, .losses = false, .in_order = true}},
    {"3 nodes, 3 accesses", {.nodes = 3, .faults = 3, .stores = 1}},
}};

}  // namespace

std::span<const Ground> grounds() { return kGrounds; }

Caught catch_mutant(Rule rule, bool only_coherence) {
  protocol::switch_all_on();
  protocol::switch_off(rule);
  Caught caught;
  for (const Ground& ground : kGrounds) {
    Bounds bounds = ground.bounds;
    bounds.only_coherence = only_coherence;
    bounds.states_max = 3'000'000;  // without R10 a page may move for ever
    caught.report = explore(bounds);
    if (caught.report.violation.empty()) continue;
    caught.ground = &ground;
    break;
  }
  protocol::switch_all_on();
  return caught;
}

}  // namespace pagewire::model
