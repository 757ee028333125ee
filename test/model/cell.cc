#include "test/model/cell.h"

#include <algorithm>
#include <cstdlib>
#include <span>

#include "protocol/admission.h"

namespace pagewire::model {
namespace {

using protocol::Access;
using protocol::allows;
using protocol::Deferred;
using protocol::Effect;
using protocol::Effects;
using protocol::Event;
using protocol::GrantedList;
using protocol::initial_entry;
using protocol::initial_owner;
using protocol::kDeferredMax;
using protocol::kNever;
using protocol::kNoRound;
using protocol::MessageType;
using protocol::NodeId;
using protocol::NodeSet;
using protocol::Outcome;
using protocol::PageEntry;
using protocol::PageId;
using protocol::PageRef;
using protocol::Permission;
using protocol::Round;
using protocol::Rounds;
using protocol::Stage;
using protocol::Time;
using protocol::View;

constexpr Time kNow{1'000'000};
constexpr Time kExpired{500'000};      // any armed deadline: a time-out may come at any time
constexpr std::uint64_t kHoldNs = 10;  // any hold: kNow + 10 until a step says that it is over

View view_of(const Bounds& bounds, NodeId self) {
  View view;
  view.self = self;
  view.members = NodeSet::first(bounds.nodes);
  view.grace_ns = bounds.grace ? 1 : 0;
  view.hold_ns = bounds.hold ? kHoldNs : 0;
  return view;
}

// The node's pool as it was, with the same free places; indices do not matter to anybody.
struct Pool {
  Pool(const Bounds& bounds, NodeCell& cell)
      : storage(bounds.rounds), deadlines(bounds.rounds), rounds(storage, deadlines) {
    for (std::uint8_t p = 0; p < bounds.pages; ++p) {
      PageCell& page = cell.pages[p];
      if (page.entry.round == kNoRound) continue;
      const std::uint16_t index = rounds.take(PageId{0, p}, false);
      if (index == kNoRound) std::abort();
      rounds.set_local(index, page.round.local);
      rounds[index] = page.round;
      if (page.armed)
        rounds.arm(index, page.round.stage == Stage::kHolding ? page.entry.hold_until : kExpired);
      page.entry.round = index;
    }
  }
  std::vector<Round> storage;
  std::vector<Time> deadlines;
  Rounds rounds;
};

// Puts the pool's rounds back into the cell, without what only concerns time.
const char* normalise(const Bounds& bounds, Pool& pool, NodeCell& cell) {
  const char* complaint = nullptr;
  std::size_t in_use = 0;
  std::size_t own = 0;  // rounds that go on until another node answers
  for (std::uint8_t p = 0; p < bounds.pages; ++p) {
    PageCell& page = cell.pages[p];
    page.entry.hold_until = page.entry.hold_until > kNow ? kNow.after(kHoldNs) : Time{};
    page.armed = page.entry.round != kNoRound;
    page.round = Round{};
    if (!page.armed) continue;
    ++in_use;
    const std::uint16_t index = page.entry.round;
    page.round = pool.rounds[index];
    page.round.attempts = 0;
    page.round.held_answers = 0;
    for (std::size_t i = page.round.deferred_count; i < kDeferredMax; ++i)
      page.round.deferred[i] = Deferred{};
    page.entry.round = 0;
    if (page.round.stage != Stage::kRequesting) page.round.followed = {};  // not looked at any more
    if (page.round.stage == Stage::kRequesting || page.round.stage == Stage::kCollecting) ++own;
    if (!std::is_partitioned(page.round.deferred.begin(),
                             page.round.deferred.begin() + page.round.deferred_count,
                             [](const Deferred& waiting) { return waiting.direct; })) {
      complaint = "ORDER: who was turned away before waits behind others";
    }
    if (page.round.stage == Stage::kFree || page.round.page != PageId{0, p})
      complaint = "POOL: a round that is not the page's";
    if (pool.rounds.deadline(index) == kNever) complaint = "POOL: a round that no time-out ends";
    if (pool.rounds.next_deadline() > pool.rounds.deadline(index))
      complaint = "POOL: a deadline that nobody looks at";
  }
  if (own > bounds.rounds - (bounds.rounds + 3) / 4)
    complaint = "POOL: own requests fill the reserve for others";
  if (in_use != pool.rounds.in_use()) complaint = "POOL: a round was lost";
  return complaint;
}

NodeCell initial_cell(const Bounds& bounds, NodeId self, NodeId one) {
  NodeCell cell;
  cell.self = self;
  for (std::uint32_t p = 0; p < bounds.pages; ++p) {
    const NodeId owner = initial_owner(bounds.placement, one, bounds.nodes, p, bounds.pages);
    cell.pages[p].entry = initial_entry(self, owner, bounds.placement);
    if (bounds.migratory && self == owner) cell.pages[p].entry.sharing = protocol::Sharing{2};
  }
  return cell;
}

bool waits_for_hold(const PageCell& page) {
  return page.entry.round != kNoRound && page.round.stage == Stage::kHolding;
}

bool wants(const PageCell& page, Access access) {
  if (page.entry.round == kNoRound) return false;
  return access == Access::kRead ? page.round.wants_read : page.round.wants_write;
}

bool may_fault(const PageCell& page, Access access) {
  return is_refused(page, access) || (!allows(page.entry.permission, access) && !wants(page, access));
}

bool& refused(PageCell& page, Access access) {
  return access == Access::kRead ? page.refused_read : page.refused_write;
}

Access access_of(Action::Kind fault) {
  return fault == Action::Kind::kReadFault ? Access::kRead : Access::kWrite;
}

bool raised_or_woke(const Effects& effects) {
  for (const auto& effect : effects.all()) {
    if (effect.kind == Effect::Kind::kWake || effect.kind == Effect::Kind::kMapRead ||
        effect.kind == Effect::Kind::kMapWrite || effect.kind == Effect::Kind::kUnprotect) {
      return true;
    }
  }
  return false;
}

const char* check_monotonic(const PageEntry& before, const PageEntry& after) {
  if (after.version < before.version) return "I5: version fell";
  if (after.epoch < before.epoch) return "I5: epoch fell";
  if (after.floor < before.floor) return "I5: floor fell";
  if (after.last_transaction < before.last_transaction) return "I5: transaction fell";
  if (after.permission != Permission::kInvalid && after.version < after.floor)
    return "R5: holds a copy below its floor";
  return nullptr;
}

// R11, as a frame with that message would be judged.
bool is_admitted(const Bounds& bounds, const NodeCell& cell, const Envelope& envelope) {
  const auto boot = [&](std::uint8_t life) { return bounds.restart == Restart::kNewBoot ? life + 1U : 1U; };
  const auto view = [&](std::uint8_t life) { return bounds.restart == Restart::kNewView ? life + 1U : 1U; };
  protocol::Header header;
  header.type = static_cast<std::uint8_t>(envelope.message.type);
  header.view = view(envelope.life);
  header.sender = envelope.message.from;
  header.to = NodeSet::of(NodeId{envelope.to});
  header.boot_id = boot(envelope.life);
  const protocol::Listener here{
      .self = cell.self, .node_count = bounds.nodes, .view = view(cell.life), .joined = true};
  return admit(here, header, boot(cell.life)) == protocol::Drop::kNone;
}

bool is_possible(const Bounds& bounds, const NodeCell& cell, const Action& action) {
  const PageCell& page = cell.pages[action.page];
  switch (action.kind) {
    case Action::Kind::kReadFault:
      return may_fault(page, Access::kRead);
    case Action::Kind::kWriteFault:
      return may_fault(page, Access::kWrite);
    case Action::Kind::kTimeout:
      return page.armed && (page.round.stage != Stage::kHolding || page.entry.hold_until == Time{}) &&
             (!bounds.in_order || waits_for_time(page));
    case Action::Kind::kTurnTaken:
      return true;
    case Action::Kind::kHoldOver:
      return page.entry.hold_until != Time{};
    case Action::Kind::kForget:
      return page.entry.owner && page.entry.granted != GrantedList{};
    case Action::Kind::kStore:
      return page.memory.mapping == Permission::kWrite;
    case Action::Kind::kRestart:
      return cell.life == 0;
    case Action::Kind::kDeliver:
      return is_admitted(bounds, cell, *action.envelope);
    case Action::Kind::kLoseAll:
      break;
  }
  return false;
}

// The steps that need no transition.
bool take_plain_step(const Bounds& bounds, NodeCell& cell, const Action& action) {
  PageCell& page = cell.pages[action.page];
  switch (action.kind) {
    case Action::Kind::kHoldOver:
      page.entry.hold_until = Time{};
      return true;
    case Action::Kind::kForget:
      page.entry.granted = GrantedList{};
      return true;
    case Action::Kind::kStore:
      page.memory.value = action.value;
      return true;
    case Action::Kind::kRestart:
      cell = initial_cell(bounds, cell.self, NodeId{action.value});
      cell.life = 1;
      return true;
    default:
      return false;
  }
}

// What a write request that was heard before must not do again.
const char* note_dropped_copy(const PageCell& before, const Action& action, PageCell& after) {
  if (action.kind != Action::Kind::kDeliver || action.envelope->message.type != MessageType::kWriteRequest) {
    return nullptr;
  }
  const protocol::Message& message = action.envelope->message;
  const bool same = before.entry.heard_node == message.from && before.entry.heard == message.transaction;
  const bool dropped =
      before.entry.permission == Permission::kRead && after.entry.permission == Permission::kInvalid;
  if (same && dropped && before.dropped_for_heard && !before.entry.owner)
    return "HEARD: a doubled write request drops a copy twice";
  after.dropped_for_heard = dropped || (same && before.dropped_for_heard);
  return nullptr;
}

}  // namespace

NodeCell initial_cell(const Bounds& bounds, NodeId self) { return initial_cell(bounds, self, NodeId{0}); }

Step take_step(const Bounds& bounds, const NodeCell& before, const Action& action) {
  Step step;
  if (!is_possible(bounds, before, action)) return step;
  step.possible = true;
  step.after = before;
  if (take_plain_step(bounds, step.after, action)) return step;

  const View view = view_of(bounds, before.self);
  Pool pool(bounds, step.after);
  PageCell& page = step.after.pages[action.page];
  const PageRef ref{PageId{0, action.page}, page.entry, pool.rounds};
  Effects effects;
  Handled handled;
  switch (action.kind) {
    case Action::Kind::kReadFault:
    case Action::Kind::kWriteFault: {
      const PageEntry entry = page.entry;
      const Access access = access_of(action.kind);
      if (on_fault(view, ref, access, kNow, effects) == Outcome::kBusy) {
        const bool changed = !(entry == page.entry) || !effects.empty();
        step.after = before;
        step.possible = !is_refused(before.pages[action.page], access);
        refused(step.after.pages[action.page], access) = true;
        if (changed) step.complaint = "BUSY: something changed all the same";
        return step;
      }
      refused(page, access) = false;
      break;
    }
    case Action::Kind::kTimeout:
      on_timeout(view, ref, kNow, effects);
      break;
    case Action::Kind::kTurnTaken:
      on_turn_taken(view, ref, kNow, effects);
      if (wants_turn(ref, kNow)) step.complaint = "TURN: taken, and messages wait on";
      break;
    default:
      handled.message = &action.envelope->message;
      handled.value = action.envelope->value;
      handled.wanted_bytes = wants_bytes(view, ref, *handled.message);
      on_message(view, ref, *handled.message, kNow, effects);
  }
  const char* effects_complaint = carry_out(
      view, page.entry, effects, handled, page.memory, [&](const Effect& effect, std::uint8_t value) {
        effect.to.for_each([&](NodeId to) {
          step.sent.push_back(Envelope{to.value, action.page, value, before.life, effect.message});
        });
      });
  if (step.complaint == nullptr) step.complaint = effects_complaint;
  step.let_on = raised_or_woke(effects);
  const char* pool_complaint = normalise(bounds, pool, step.after);
  if (step.complaint == nullptr) step.complaint = pool_complaint;
  const char* heard_complaint = note_dropped_copy(before.pages[action.page], action, page);
  if (step.complaint == nullptr) step.complaint = heard_complaint;
  if (step.complaint == nullptr && action.envelope != nullptr && action.envelope->life != before.life)
    step.complaint = "R11: a frame of another life was let in";
  // A late double of a read that was answered by a copy may move the page; it is not on the list.
  const bool moved_by_read = handled.message != nullptr && handled.message->sharing.is_migratory();
  if (step.complaint == nullptr && bounds.forgets == 0 && !moved_by_read &&
      pool.rounds.events(Event::kUnsolicited) > 0)
    step.complaint = "R10: ownership comes to a node that asks for nothing";
  return step;
}

const char* check_step(const NodeCell& before, const Action& action, const Step& step) {
  if (step.complaint != nullptr || !step.possible) return step.complaint;
  if (action.kind == Action::Kind::kRestart) return nullptr;
  const PageCell& was = before.pages[action.page];
  const PageCell& is = step.after.pages[action.page];
  for (const Access access : {Access::kRead, Access::kWrite}) {
    if (wants(was, access) && !wants(is, access) && !step.let_on)
      return "I6: a thread that waits was forgotten";
    const bool faults =
        action.kind == (access == Access::kRead ? Action::Kind::kReadFault : Action::Kind::kWriteFault);
    if (faults && !wants(is, access) && !is_refused(is, access) && !step.let_on)
      return "I6: a fault was taken and nobody remembers it";
  }
  if (action.kind == Action::Kind::kTurnTaken) {
    const bool held = was.entry.hold_until != Time{} || waits_for_hold(was);
    if (is.entry.hold_until != Time{} || waits_for_hold(is)) return "TURN: taken, and the hold goes on";
    if (!held && !(is.entry == was.entry && is.round == was.round && step.sent.empty()))
      return "TURN: something changed where nothing was held";
  }
  return check_monotonic(was.entry, is.entry);
}

bool waits_for_time(const PageCell& page) {
  return waits_for_hold(page) ||
         (page.entry.round != kNoRound && page.round.stage == Stage::kCollecting && !page.round.asked_all);
}

}  // namespace pagewire::model
