#include "test/model/invariants.h"

#include <algorithm>

namespace pagewire::model {
namespace {

using protocol::kNoRound;
using protocol::NodeId;
using protocol::Permission;
using protocol::Stage;

struct Latest {
  std::uint8_t holder = 0;
  protocol::Version version{};
  protocol::NodeSet may_hold{};
};

// Who has the page's latest version: its owner, or who gives it away and is not yet accepted.
Latest latest_of(const Bounds& bounds, const Universe& universe, const State& state, std::uint8_t page,
                 std::uint8_t newest) {
  Latest latest;
  for (std::uint8_t i = 0; i < bounds.nodes; ++i) {
    const NodeCell& node = universe.cell(state.cells[i]);
    const PageCell& cell = node.pages[page];
    const bool busy = cell.entry.round != kNoRound;
    const bool giving =
        busy && cell.round.stage == Stage::kHandingOver &&
        universe.cell(state.cells[cell.round.target.value]).pages[page].entry.epoch <= cell.entry.epoch;
    if (node.life != newest || (!cell.entry.owner && !giving)) continue;
    const bool next = giving || (busy && cell.round.stage == Stage::kCollecting);
    latest.holder = i;
    latest.version = next ? cell.round.new_version : cell.entry.version;
    latest.may_hold = giving ? cell.round.copyset.with(cell.round.target) : cell.entry.copyset;
    latest.may_hold.add(NodeId{i});
  }
  return latest;
}

// Stronger than I1 to I4, so that a defect shows before anybody can see it.
const char* check_latest(const Bounds& bounds, const Universe& universe, const State& state,
                         std::uint8_t page, std::uint8_t newest) {
  const Latest latest = latest_of(bounds, universe, state, page, newest);
  if (universe.cell(state.cells[latest.holder]).pages[page].memory.value != state.stored[page])
    return "S1: the owner, or who hands over, has not the last write";
  for (std::uint8_t i = 0; i < bounds.nodes; ++i) {
    const NodeCell& node = universe.cell(state.cells[i]);
    const PageCell& cell = node.pages[page];
    if (node.life != newest) continue;
    if (cell.memory.mapping != Permission::kInvalid && !latest.may_hold.contains(NodeId{i}))
      return "S2: a copy of which the owner does not know";
    if (cell.entry.floor > latest.version.next()) return "S3: a floor beyond what was handed out";
    for (std::uint8_t j = 0; j < i; ++j) {
      const NodeCell& other = universe.cell(state.cells[j]);
      if (other.life == newest && other.pages[page].entry.data_version == cell.entry.data_version &&
          other.pages[page].memory.value != cell.memory.value) {
        return "S4: one tag, two contents";
      }
    }
  }
  return nullptr;
}

// I1-I4 for one page, among the nodes of the newest life.
const char* check_page(const Bounds& bounds, const Universe& universe, const State& state,
                       std::uint8_t page) {
  const std::uint8_t newest = newest_life(bounds, universe, state);
  std::uint32_t owners = 0;
  std::uint32_t under_way = 0;
  std::uint32_t writers = 0;
  std::uint32_t readers = 0;
  bool all_newest = true;
  for (std::uint32_t i = 0; i < bounds.nodes; ++i) {
    const NodeCell& node = universe.cell(state.cells[i]);
    const PageCell& cell = node.pages[page];
    all_newest &= node.life == newest;
    if (node.life != newest) continue;
    owners += cell.entry.owner ? 1 : 0;
    writers += cell.memory.mapping == Permission::kWrite ? 1 : 0;
    readers += cell.memory.mapping == Permission::kRead ? 1 : 0;
    if (cell.memory.mapping != Permission::kInvalid && cell.memory.value != state.stored[page])
      return "I2: a node may read what is not the last write";
    if (cell.entry.round == kNoRound || cell.round.stage != Stage::kHandingOver) continue;
    const PageCell& target = universe.cell(state.cells[cell.round.target.value]).pages[page];
    under_way += target.entry.epoch <= cell.entry.epoch ? 1 : 0;
  }
  if (writers > 1 || (writers == 1 && readers > 0)) return "I1: a writer and others";
  if (owners > 1) return "I3: more than one owner";
  const bool has_latest = owners + under_way == 1;
  if (!has_latest && (owners + under_way != 0 || all_newest))
    return "I4: not exactly one of owner and hand-over under way";
  return has_latest && !bounds.only_coherence ? check_latest(bounds, universe, state, page, newest) : nullptr;
}

}  // namespace

std::uint8_t newest_life(const Bounds& bounds, const Universe& universe, const State& state) {
  std::uint8_t newest = 0;
  for (std::uint32_t i = 0; i < bounds.nodes; ++i)
    newest = std::max(newest, universe.cell(state.cells[i]).life);
  return newest;
}

const char* check(const Bounds& bounds, const Universe& universe, const State& state) {
  for (std::uint8_t page = 0; page < bounds.pages; ++page) {
    if (const char* complaint = check_page(bounds, universe, state, page)) return complaint;
  }
  return nullptr;
}

bool at_rest(const Bounds& bounds, const Universe& universe, const State& state) {
  for (std::uint32_t i = 0; i < bounds.nodes; ++i) {
    for (std::uint32_t p = 0; p < bounds.pages; ++p) {
      const PageCell& page = universe.cell(state.cells[i]).pages[p];
      if (page.entry.round != kNoRound || page.refused_read || page.refused_write) return false;
    }
  }
  return true;
}

}  // namespace pagewire::model
