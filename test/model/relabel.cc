#include "test/model/relabel.h"

#include <algorithm>
#include <numeric>

namespace pagewire::model {
namespace {

using protocol::GrantedList;
using protocol::kNoNode;
using protocol::NodeId;
using protocol::NodeSet;

static_assert(kNodesMax <= 4, "a permutation's code has two bits a node");

struct Renamer {
  const Names& names;
  std::uint32_t nodes;

  NodeId operator()(NodeId node) const { return node.value < nodes ? NodeId{names[node.value]} : node; }
  NodeSet operator()(NodeSet set) const {
    NodeSet renamed;
    set.for_each([&](NodeId node) { renamed.add((*this)(node)); });
    return renamed;
  }
  GrantedList operator()(const GrantedList& list) const {
    auto raw = list.raw();
    for (auto& slot : raw) {
      if (slot == 0) continue;
      const NodeId node{static_cast<std::uint8_t>((slot >> 56) - 1)};
      slot = (slot & 0xffffffffffffff) | (std::uint64_t{(*this)(node).value} + 1) << 56;
    }
    return GrantedList::from_raw(raw);
  }
};

}  // namespace

Permutations::Permutations(std::uint32_t nodes) : nodes_(nodes) {
  Names names{};
  std::iota(names.begin(), names.end(), std::uint8_t{0});
  do {
    index_[code(names)] = static_cast<std::uint8_t>(all_.size());
    all_.push_back(names);
  } while (std::next_permutation(names.begin(), names.begin() + nodes));
}

std::size_t Permutations::code(const Names& names) const {
  std::size_t code = 0;
  for (std::uint32_t i = 0; i < nodes_; ++i) code |= std::size_t{names[i]} << (2 * i);
  return code;
}

std::uint8_t Permutations::inverse(std::uint8_t index) const {
  Names inverted{};
  for (std::uint8_t i = 0; i < nodes_; ++i) inverted[all_[index][i]] = i;
  return index_of(inverted);
}

std::uint8_t Permutations::compose(std::uint8_t first, std::uint8_t second) const {
  Names both{};
  for (std::uint32_t i = 0; i < nodes_; ++i) both[i] = all_[second][all_[first][i]];
  return index_of(both);
}

NodeCell relabel(const Bounds& bounds, const NodeCell& cell, const Names& names) {
  const Renamer rename{names, bounds.nodes};
  NodeCell renamed = cell;
  renamed.self = rename(cell.self);
  for (std::uint32_t p = 0; p < bounds.pages; ++p) {
    protocol::PageEntry& entry = renamed.pages[p].entry;
    entry.hint = rename(entry.hint);
    entry.heard_node = rename(entry.heard_node);
    entry.copyset = rename(entry.copyset);
    entry.granted = rename(entry.granted);
    protocol::Round& round = renamed.pages[p].round;
    round.target = rename(round.target);
    round.copyset = rename(round.copyset);
    round.held_by = rename(round.held_by);
    for (std::size_t i = 0; i < round.deferred_count; ++i)
      round.deferred[i].from = rename(round.deferred[i].from);
    for (std::uint32_t i = 0; i < bounds.nodes; ++i)
      round.promised[names[i]] = cell.pages[p].round.promised[i];
  }
  return renamed;
}

Envelope relabel(const Bounds& bounds, const Envelope& envelope, const Names& names) {
  const Renamer rename{names, bounds.nodes};
  Envelope renamed = envelope;
  renamed.to = names[envelope.to];
  protocol::Message& message = renamed.message;
  message.from = rename(message.from);
  message.hint = rename(message.hint);
  message.copyset = rename(message.copyset);
  message.granted = rename(message.granted);
  return renamed;
}

}  // namespace pagewire::model
