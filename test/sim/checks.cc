// What must hold after each step.
#include <algorithm>
#include <span>
#include <string_view>

#include "test/sim/simulator.h"

namespace pagewire::sim {

using protocol::kNoRound;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::PageEntry;
using protocol::Permission;
using protocol::Round;
using protocol::Rounds;
using protocol::Stage;

void Simulator::fail(const char* what, std::uint8_t node, std::uint32_t page) {
  if (report_.violation) return;
  const std::string_view invariant = std::string_view(what).substr(0, 2);
  if (demand_ == Demand::kVisible && invariant != "I1" && invariant != "I2" && invariant != "I6") return;
  report_.violation = Violation{what, report_.steps, node, page};
  if (tells(page)) tell(Line::Kind::kViolation, node, node, page, what);
}

// What one step of one node must keep.
const char* Simulator::check_step(std::uint8_t node, std::uint32_t page, const model::Handled& handled,
                                  const Before& was) {
  Slot& at = slot(node, page);
  const PageEntry& entry = at.entry;
  if (entry.version < was.version) return "I5: version fell";
  if (entry.epoch < was.epoch) return "I5: epoch fell";
  if (entry.floor < was.floor) return "I5: floor fell";
  if (entry.last_transaction < was.transaction) return "I5: transaction fell";
  if (entry.permission != Permission::kInvalid && entry.version < entry.floor)
    return "R5: holds a copy below its floor";
  const Rounds& rounds = *nodes_[node].rounds;
  // With more nodes than the list has places, a late double may be forgotten; and that of a read that was
  // answered by a copy is not on it.
  const bool moved_by_read = handled.message != nullptr && handled.message->sharing.is_migratory();
  if (setting_.nodes <= protocol::GrantedList::kCapacity && !moved_by_read &&
      rounds.events(protocol::Event::kUnsolicited) != was.unsolicited) {
    return "R10: ownership came to a node that asks for nothing";
  }
  if (entry.round != kNoRound) {
    const Round& round = rounds[entry.round];
    if (round.stage == Stage::kFree || round.page.index != page)
      return "POOL: a round that is not the page's";
    const auto line = std::span(round.deferred).first(round.deferred_count);
    if (!std::is_partitioned(line.begin(), line.end(),
                             [](const protocol::Deferred& one) { return one.direct; }))
      return "ORDER: who was turned away before waits behind others";
    if (rounds.deadline(entry.round) == protocol::kNever) return "POOL: a round that no time-out ends";
    if (rounds.next_deadline() > rounds.deadline(entry.round)) return "POOL: a deadline that nobody looks at";
  }
  if (const char* broken = check_followed_once(node, at, handled)) return broken;
  return check_heard_once(at, handled, was);
}

// A request goes after the owner hand-over by hand-over, forward: nodes that point at each other end it.
const char* Simulator::check_followed_once(std::uint8_t node, Slot& at, const model::Handled& handled) {
  if (handled.message == nullptr || handled.message->type != MessageType::kNotOwner) return nullptr;
  const auto sent = effects_.all();
  if (sent.empty() || !sent[0].message.direct) return nullptr;
  const protocol::Transaction transaction = (*nodes_[node].rounds)[at.entry.round].transaction;
  const bool same = at.followed_for == transaction;
  if (same && handled.message->epoch <= at.followed) return "STORM: one hand-over was followed twice";
  at.followed_for = transaction;
  at.followed = handled.message->epoch;
  return nullptr;
}

// A request that was heard once does not cost the holder its copy a second time.
const char* Simulator::check_heard_once(Slot& at, const model::Handled& handled, const Before& was) {
  const PageEntry& entry = at.entry;
  const bool request = handled.message != nullptr && handled.message->type == MessageType::kWriteRequest;
  const bool dropped = request && !was.owner && was.permission == Permission::kRead &&
                       entry.permission == Permission::kInvalid;
  if (dropped) {
    const NodeId from = handled.message->from;
    const protocol::Transaction transaction = handled.message->transaction;
    if (at.dropped_for == from && at.dropped_at == transaction)
      return "HEARD: one write request took two copies";
    at.dropped_for = from;
    at.dropped_at = transaction;
  } else if (entry.heard_node != was.heard_node || entry.heard != was.heard) {
    at.dropped_for = protocol::kNoNode;  // another came between
  }
  return nullptr;
}

// I1 to I4 over all nodes.
const char* Simulator::check_page(std::uint32_t page) {
  std::uint32_t owners = 0;
  std::uint32_t under_way = 0;
  std::uint32_t writers = 0;
  std::uint32_t mapped = 0;
  bool stale = false;
  if (living_ < setting_.nodes) give_up_what_is_with_the_dead(page);
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    const Slot& at = slot(n, page);
    if (at.entry.owner) ++owners;
    if (at.memory.mapping != Permission::kInvalid) {
      ++mapped;
      if (at.memory.mapping == Permission::kWrite) ++writers;
      if (at.value != stored_[page]) stale = true;
    }
    if (at.entry.round == kNoRound) continue;
    const Round& round = (*nodes_[n].rounds)[at.entry.round];
    // The target's epoch says whether it has been accepted.
    if (round.stage == Stage::kHandingOver &&
        slot(round.target.value, page).entry.epoch < at.entry.epoch.next())
      ++under_way;
  }
  if (writers > 1) return "I1: two writers";
  if (writers == 1 && mapped > 1) return "I1: a writer, and a reader";
  if (stale) return "I2: a copy is mapped that is not the last store";
  if (owners > 1) return "I3: two owners";
  if (owners + under_way > 1) return "I4: an owner, and a hand-over that may be accepted";
  if (owners + under_way == 0 && given_up_[page] == 0) return "I4: no owner, and no hand-over";
  return nullptr;
}

void Simulator::give_up(std::uint32_t page) {
  if (given_up_[page] != 0) return;
  given_up_[page] = 1;
  report_.counters.add(Counter::kPagesGivenUp);
}

void Simulator::give_up_what_is_with_the_dead(std::uint32_t page) {
  NodeSet dead;
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    if (nodes_[n].dead) dead.add(NodeId{n});
  }
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    const PageEntry& entry = slot(n, page).entry;
    if (nodes_[n].dead) continue;
    NodeSet touched = entry.copyset;
    if (stage(n, page) == Stage::kHandingOver) {
      const Round& round = (*nodes_[n].rounds)[entry.round];
      touched = round.copyset.with(round.target);
    }
    if (!touched.intersect(dead).empty()) give_up(page);
  }
}

const char* Simulator::check_pool(std::uint8_t node) {
  const Rounds& rounds = *nodes_[node].rounds;
  std::size_t in_use = 0;
  for (std::uint32_t page = 0; page < setting_.pages; ++page) {
    const std::uint16_t round = slot(node, page).entry.round;
    if (round == kNoRound) continue;
    ++in_use;
    if (rounds[round].page.index != page) return "POOL: a round that is not the page's";
  }
  return in_use == rounds.in_use() ? nullptr : "POOL: a round was lost";
}

void Simulator::check_all() {
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    if (const char* broken = check_pool(n)) fail(broken, n, 0);
  }
  for (std::uint32_t page = 0; page < setting_.pages; ++page) {
    if (const char* broken = check_page(page)) fail(broken, 0, page);
  }
}

}  // namespace pagewire::sim
