#include "test/model/presets.h"

#include <algorithm>
#include <array>

namespace pagewire::model {
namespace {

using protocol::Placement;

constexpr std::array kPresets = {
    Preset{"2x4", "2 nodes, 1 page, 4 accesses", {.nodes = 2, .faults = 4}, true},
    Preset{"2x4-hold",
           "2 nodes, 1 page, 4 accesses, with hold",
           {.nodes = 2, .faults = 4, .stores = 1, .hold = true},
           true},
    Preset{"2x4-forget",
           "2 nodes, 1 page, 4 accesses, the granted list is lost once",
           {.nodes = 2, .faults = 4, .stores = 1, .forgets = 1},
           true},
    Preset{"2x3-boot",
           "2 nodes, 1 page, 3 accesses, each node may come back with a new boot id",
           {.nodes = 2, .faults = 3, .stores = 1, .restart = Restart::kNewBoot},
           true},
    Preset{"3x2-view",
           "3 nodes, 1 page, 2 accesses, each node may pass to a new view",
           {.nodes = 3, .faults = 2, .stores = 1, .restart = Restart::kNewView},
           true},
    Preset{"3x2-touch",
           "3 nodes, 1 page, 2 accesses, first touch, with hold, the granted list is lost once",
           {.nodes = 3, .faults = 2, .forgets = 1, .hold = true, .placement = Placement::kFirstTouch},
           true},
    Preset{"3x2-grace",
           "3 nodes, 1 page, 2 accesses, with hold and grace, the granted list is lost once",
           {.nodes = 3, .faults = 2, .forgets = 1, .grace = true, .hold = true},
           true},
    Preset{"3x2-overhear",
           "3 nodes, 1 page, 2 accesses, every node hears every message",
           {.nodes = 3, .faults = 2, .overhear = true},
           true},
    Preset{
        "4x2-hold", "4 nodes, 1 page, 2 accesses, with hold", {.nodes = 4, .faults = 2, .hold = true}, true},
    Preset{"2x2x4",
           "2 nodes, 2 pages on one pool of 2 rounds, 4 accesses",
           {.nodes = 2, .pages = 2, .faults = 4, .stores = 1, .rounds = 2, .placement = Placement::kCyclic},
           true},
    Preset{"2x3x3",
           "2 nodes, 3 pages on one pool of 2 rounds, 3 accesses: an empty pool",
           {.nodes = 2, .pages = 3, .faults = 3, .stores = 1, .rounds = 2, .placement = Placement::kCyclic},
           true},
    Preset{"2x3-touch",
           "2 nodes, 1 page, 3 accesses, first touch",
           {.nodes = 2, .faults = 3, .stores = 1, .placement = Placement::kFirstTouch},
           true},
    Preset{"2x4-touch",
           "2 nodes, 1 page, 4 accesses, first touch, with hold",
           {.nodes = 2, .faults = 4, .stores = 1, .hold = true, .placement = Placement::kFirstTouch},
           true},
    Preset{"3x4-order",
           "3 nodes, 1 page, 4 accesses, no loss, links in order, no repeats",
           {.nodes = 3, .faults = 4, .stores = 0, .losses = false, .in_order = true},
           true},
    Preset{"3x3-order-hold",
           "3 nodes, 1 page, 3 accesses, hold and grace, no loss, links in order, no repeats",
           {.nodes = 3,
            .faults = 3,
            .stores = 1,
            .grace = true,
            .hold = true,
            .losses = false,
            .in_order = true},
           true},
    Preset{"3x3-order-touch",
           "3 nodes, 1 page, 3 accesses, first touch, no loss, links in order, no repeats",
           {.nodes = 3,
            .faults = 3,
            .stores = 1,
            .losses = false,
            .in_order = true,
            .placement = Placement::kFirstTouch},
           true},
    Preset{"3x3-reads",
           "3 nodes, 1 page, 3 accesses that store nothing, without the loss of all",
           {.nodes = 3, .faults = 3, .stores = 0, .losses = false},
           true},
    Preset{"3x3", "3 nodes, 1 page, 3 accesses", {.nodes = 3, .faults = 3, .stores = 1}},
    Preset{"3x3-touch",
           "3 nodes, 1 page, 3 accesses, first touch, with grace",
           {.nodes = 3, .faults = 3, .stores = 1, .grace = true, .placement = Placement::kFirstTouch}},
    Preset{"3x3-stores", "3 nodes, 1 page, 3 accesses, 2 stores", {.nodes = 3, .faults = 3, .stores = 2}},
    Preset{"3x3-hold",
           "3 nodes, 1 page, 3 accesses, 2 stores, with hold and grace",
           {.nodes = 3, .faults = 3, .grace = true, .hold = true}},
    Preset{"2x5", "2 nodes, 1 page, 5 accesses", {.nodes = 2, .faults = 5, .stores = 2}},
    Preset{"2x2x5",
           "2 nodes, 2 pages on one pool of 2 rounds, 5 accesses",
           {.nodes = 2, .pages = 2, .faults = 5, .stores = 1, .rounds = 2, .placement = Placement::kCyclic}},
    Preset{"2x4-boot",
           "2 nodes, 1 page, 4 accesses, each node may come back with a new boot id",
           {.nodes = 2, .faults = 4, .stores = 1, .restart = Restart::kNewBoot}},
    Preset{"4x3-order",
           "4 nodes, 1 page, 3 accesses, no loss, links in order, no repeats",
           {.nodes = 4, .faults = 3, .stores = 0, .losses = false, .in_order = true}},
    Preset{"4x3", "4 nodes, 1 page, 3 accesses", {.nodes = 4, .faults = 3, .stores = 1}},
    Preset{"3x4", "3 nodes, 1 page, 4 accesses: a night", {.nodes = 3, .faults = 4, .stores = 1}},
};

}  // namespace

std::span<const Preset> presets() { return kPresets; }

const Preset* find_preset(std::string_view name) {
  const auto* found = std::find_if(kPresets.begin(), kPresets.end(),
                                   [&](const Preset& preset) { return name == preset.name; });
  return found == kPresets.end() ? nullptr : found;
}

}  // namespace pagewire::model
