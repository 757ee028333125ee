// Faults, time-outs, and the rounds and permissions that all transitions share. Only the page's loop calls
// it.
#include "protocol/core.h"

#include <algorithm>
#include <array>
#include <utility>

#include "protocol/rules.h"
#include "protocol/transition.h"

namespace pagewire::protocol {

Outcome on_fault(const View& view, PageRef page, Access access, Time now, Effects& effects) {
  return Transition(view, page, now, effects).fault(access);
}

void on_message(const View& view, PageRef page, const Message& message, Time now, Effects& effects) {
  if (message.from == view.self || !view.members.contains(message.from)) return;
  Transition(view, page, now, effects).message(message);
}

void on_timeout(const View& view, PageRef page, Time now, Effects& effects) {
  if (page.entry.round != kNoRound) Transition(view, page, now, effects).timeout();
}

void on_turn_taken(const View& view, PageRef page, Time now, Effects& effects) {
  Transition(view, page, now, effects).turn_taken();
}

bool on_hold(PageRef page, Access access, Time until) {
  if (!allows(page.entry.permission, access)) return false;
  page.entry.hold_until = std::max(page.entry.hold_until, until);
  // Who keeps it to read it will not store, and others may read it as well.
  if (access == Access::kRead && page.entry.permission == Permission::kRead) page.entry.sharing = {};
  if (page.entry.round != kNoRound && page.rounds[page.entry.round].stage == Stage::kHolding) {
    page.rounds.arm(page.entry.round, page.entry.hold_until);
  }
  return true;
}

bool wants_turn(PageRef page, Time now) {
  const PageEntry& entry = page.entry;
  return now < entry.hold_until && entry.round != kNoRound &&
         page.rounds[entry.round].stage == Stage::kHolding;
}

bool wants_bytes(const View& view, PageRef page, const Message& message) {
  if (message.from == view.self || !message.has_bytes) return false;
  const PageEntry& entry = page.entry;
  if (message.type == MessageType::kOwnershipTransfer) {
    const bool handing_over =
        entry.round != kNoRound && page.rounds[entry.round].stage == Stage::kHandingOver;
    const bool above = message.epoch > entry.epoch || !keeps(Rule::kOnlyAboveEpoch);
    return above && !entry.owner && !handing_over;
  }
  if (message.type != MessageType::kCopyReply || entry.round == kNoRound) return false;
  const Round& round = page.rounds[entry.round];
  const bool pending = round.transaction == message.transaction || !keeps(Rule::kOnlyPending);
  return round.stage == Stage::kRequesting && pending;
}

Outcome Transition::fault(Access access) {
  if (allows(page_.permission, access)) {  // another thread's fault was served meanwhile
    effects_.add(Effect::Kind::kWake);
    return Outcome::kDone;
  }
  const Stage at = stage();
  if (at == Stage::kFree || at == Stage::kHolding || at == Stage::kHandingOver) {
    if (at == Stage::kHandingOver && !keeps(Rule::kNeverResumes)) page_.owner = true;
    if (page_.owner) return fault_as_owner(access);
    if (!take_round(true)) return Outcome::kBusy;
  }
  const bool raised = access == Access::kWrite && !round().wants_write;
  round().wants_write |= access == Access::kWrite;
  round().wants_read |= access == Access::kRead;
  if (at == Stage::kFree || at == Stage::kHolding || (at == Stage::kRequesting && raised) ||
      !keeps(Rule::kOneRequest)) {
    start_request();
    replay_deferred();
  }
  return Outcome::kDone;  // collecting ends in Write; after a hand-over the request starts
}

Outcome Transition::fault_as_owner(Access access) {
  if (access == Access::kRead) {
    set_permission(Permission::kRead);
    page_.fresh = false;
    page_.hold_until = now_.after(view_.hold_ns);
    return Outcome::kDone;
  }
  if (page_.copyset.empty()) {
    // It came by our load, and here is the store.
    if (page_.permission == Permission::kRead && page_.sharing.is_migratory())
      page_.sharing = page_.sharing.surer();
    grant_write(page_.version.next());
    return Outcome::kDone;
  }
  if (!take_round(true)) return Outcome::kBusy;
  round().wants_write = true;
  start_collecting(page_.version.next(), 0);
  return Outcome::kDone;
}

void Transition::message(const Message& message) {
  switch (message.type) {
    case MessageType::kCopyRequest:
      return on_copy_request(message);
    case MessageType::kCopyReply:
      return on_copy_reply(message);
    case MessageType::kWriteRequest:
      return on_write_request(message);
    case MessageType::kOwnershipTransfer:
      return on_transfer(message);
    case MessageType::kTransferAck:
      return on_transfer_ack(message);
    case MessageType::kInvalidate:
      return on_invalidate(message);
    case MessageType::kAck:
      return on_ack(message);
    case MessageType::kNotOwner:
      return on_not_owner(message);
    case MessageType::kHeld:
      return on_held(message);
  }
}

void Transition::timeout() {
  if (now_ < rounds_.deadline(page_.round)) return;
  if (stage() == Stage::kHolding) return finish_round();
  if (stage() == Stage::kCollecting && !round().asked_all) {  // the grace is over
    round().asked_all = true;
    send_invalidates(view_.others());
    return arm_retry();
  }
  // A holder that goes on holding is asked less and less often; in the end as anybody who does not answer.
  constexpr std::uint8_t kAskedAgainMax = 8;
  if (!round().held_by.empty() && round().held_answers <= kAskedAgainMax) return ask_again();
  round().held_by = NodeSet{};
  rounds_.count(Event::kRepeated);
  round().attempts = static_cast<std::uint8_t>(std::min<int>(round().attempts + 1, 32));
  switch (stage()) {
    case Stage::kRequesting:
      round().asked_all = true;
      send_request();
      break;
    case Stage::kCollecting:
      send_invalidates(view_.others());
      break;
    case Stage::kHandingOver:
      if (keeps(Rule::kTransferIsRepeated)) send_transfer(true);
      break;
    case Stage::kHolding:
    case Stage::kFree:
      break;
  }
  arm_retry();
}

void Transition::turn_taken() {
  if (!keeps(Rule::kTurnEndsHold)) return;
  page_.hold_until = std::min(page_.hold_until, now_);
  if (stage() == Stage::kHolding) finish_round();
}

// A fresh transaction for what the round wants. A read goes to the hinted owner alone first; a write to all,
// because the holders of copies answer it too.
void Transition::start_request() {
  if (keeps(Rule::kTransactionsGrow)) page_.last_transaction.value += 1;
  round().stage = Stage::kRequesting;
  round().transaction = page_.last_transaction;
  round().followed = Epoch{};
  round().held_by = NodeSet{};
  round().held_answers = 0;
  round().attempts = 0;
  round().asked_all = round().wants_write || page_.hint == view_.self ||
                      !view_.members.contains(page_.hint) || view_.others().size() == 1;
  send_request();
  arm_retry();
}

void Transition::send_request() {
  const bool direct = !round().asked_all;
  send_request_to(direct ? NodeSet::of(page_.hint) : view_.others(), direct);
}

void Transition::send_request_to(NodeSet to, bool direct) {
  Message request = make(round().wants_write ? MessageType::kWriteRequest : MessageType::kCopyRequest);
  request.transaction = round().transaction;
  request.version = page_.floor;
  request.data_version = page_.data_version;
  request.direct = direct;
  effects_.send(to, request);
}

// R4: Write comes once the whole copyset has promised. Holders that heard the write request promise unasked
// (grace).
void Transition::start_collecting(Version new_version, std::uint64_t grace_ns) {
  round().stage = Stage::kCollecting;
  round().new_version = new_version;
  round().attempts = 0;
  round().held_by = NodeSet{};
  round().held_answers = 0;
  round().asked_all = grace_ns == 0;
  if (lacking_promise(new_version).empty()) return grant_write(new_version);
  if (grace_ns == 0) {
    send_invalidates(view_.others());
    arm_retry();
  } else {
    rounds_.arm(page_.round, now_.after(grace_ns));
  }
  replay_deferred();
}

NodeSet Transition::lacking_promise(Version version) {
  NodeSet lacking;
  if (!keeps(Rule::kCopysetPromises)) return lacking;
  page_.copyset.for_each([&](NodeId node) {
    if (round().promised[node.value] < version) lacking.add(node);
  });
  return lacking;
}

void Transition::send_invalidates(NodeSet to) {
  Message invalidate = make(MessageType::kInvalidate);
  invalidate.version = round().new_version;
  const NodeSet lacking = lacking_promise(round().new_version).intersect(to);
  if (!lacking.empty()) effects_.send(lacking, invalidate);
}

// Those who held the page: by now their threads have had their turn. They do not wake up for it by
// themselves, and whoever waits here has nothing better to do.
void Transition::ask_again() {
  const NodeSet held_by = std::exchange(round().held_by, NodeSet{});
  rounds_.count(Event::kAskedAgain);
  if (stage() == Stage::kCollecting) {
    send_invalidates(held_by);
  } else {
    send_request_to(held_by, !round().asked_all);
  }
  arm_retry();
}

void Transition::try_complete() {
  if (stage() != Stage::kCollecting || !lacking_promise(round().new_version).empty()) return;  // R4
  grant_write(round().new_version);
}

void Transition::grant_write(Version new_version) {
  page_.version = new_version;
  if (keeps(Rule::kTagOfTenure)) page_.data_version = new_version;
  page_.floor = std::max(page_.floor, new_version);
  page_.copyset = NodeSet{};
  page_.fresh = false;
  set_permission(Permission::kWrite);
  granted_locally();
}

// What was wanted is here: the threads that waited for it have their turn before others are served.
void Transition::granted_locally() {
  // Of a migratory page two accesses have their turn, with a fault in between.
  constexpr std::uint64_t kHoldsOfMigratory = 4;
  const bool store_to_come =
      page_.owner && page_.permission == Permission::kRead && page_.sharing.is_migratory();
  page_.hold_until = now_.after(store_to_come ? kHoldsOfMigratory * view_.hold_ns : view_.hold_ns);
  if (has_round()) finish_round();
}

// The round has done its work. It stays for what has to wait for the end of the hold, else it ends.
void Transition::finish_round() {
  Round& done = round();
  done.wants_read = false;
  done.wants_write = false;
  done.held_by = NodeSet{};
  done.stage = Stage::kHolding;
  rounds_.set_local(page_.round, false);
  if (holding()) replay_deferred();  // some may be served meanwhile; the others are told how long to wait
  if (done.deferred_count > 0 && holding()) return rounds_.arm(page_.round, page_.hold_until);
  const std::uint8_t count = done.deferred_count;
  const auto deferred = done.deferred;
  rounds_.give_back(page_.round);
  page_.round = kNoRound;
  for (std::uint8_t i = 0; i < count; ++i) handle_again(deferred[i]);
}

// The round has moved on to another stage: what waited may be served now, or waits again.
void Transition::replay_deferred() {
  const std::uint8_t count = round().deferred_count;
  const auto deferred = round().deferred;
  round().deferred_count = 0;
  for (std::uint8_t i = 0; i < count; ++i) handle_again(deferred[i]);
}

void Transition::handle_again(const Deferred& waited) {
  Message again = make(waited.type);
  again.from = waited.from;
  again.direct = waited.direct;
  again.transaction = waited.transaction;
  again.version = waited.version;
  again.data_version = waited.data_version;
  message(again);
}

// Lets the message wait in the page's round: one of a kind and node. Its sender asks again if there is no
// room.
void Transition::defer(const Message& message) {
  if (!has_round()) {
    if (!take_round(false)) return rounds_.count(Event::kBusy);
    round().stage = Stage::kHolding;
    rounds_.arm(page_.round, page_.hold_until);
  }
  Round& waiting = round();
  const auto all = waiting.deferred.begin();
  const auto same = std::find_if(all, all + waiting.deferred_count, [&](const Deferred& other) {
    return other.from == message.from && other.type == message.type;
  });
  const bool is_new = same == all + waiting.deferred_count;
  if (is_new && waiting.deferred_count == kDeferredMax) return rounds_.count(Event::kDeferredLost);
  if (!is_new && same->transaction > message.transaction) return;  // a late repetition of an older request
  if (is_new) {
    ++waiting.deferred_count;
    rounds_.count(Event::kDeferred);
  }
  *put_in_line(same, message.direct && (is_new || !same->direct)) =
      Deferred{.type = message.type,
               .from = message.from,
               .direct = message.direct || (!is_new && same->direct),
               .transaction = message.transaction,
               .version = message.version,
               .data_version = message.data_version};
}

void Transition::defer_while_held(const Message& message) {
  defer(message);
  tell_held(Deferred{.type = message.type,
                     .from = message.from,
                     .transaction = message.transaction,
                     .version = message.version});
}

// Answers what waits for the end of the hold.
void Transition::tell_held(const Deferred& waiting) {
  Message held = make(MessageType::kHeld);
  if (waiting.type == MessageType::kInvalidate) {
    held.version = waiting.version;
  } else {
    held.transaction = waiting.transaction;
  }
  constexpr std::uint64_t kLongestNs = std::uint64_t{1} << 50;  // two weeks: what a frame can say
  held.wait_ns = std::min(page_.hold_until.ns - now_.ns, kLongestNs);
  effects_.send(NodeSet::of(waiting.from), held);
}

// What is served now need not wait any longer: an asker that was told to wait has asked again.
void Transition::forget_deferred(const Message& served) {
  if (!has_round()) return;
  Round& waiting = round();
  const auto first = waiting.deferred.begin();
  const auto end = std::remove_if(first, first + waiting.deferred_count, [&](const Deferred& other) {
    return other.from == served.from && other.type == served.type && other.transaction <= served.transaction;
  });
  waiting.deferred_count = static_cast<std::uint8_t>(end - first);
}

// A request that was sent to us alone was turned away elsewhere before: it goes before those that were not.
Deferred* Transition::put_in_line(Deferred* place, bool goes_ahead) {
  Deferred* const first = round().deferred.data();
  if (!goes_ahead || !keeps(Rule::kTurnedAwayFirst)) return place;
  Deferred* const ahead = std::find_if(first, place, [](const Deferred& other) { return !other.direct; });
  std::move_backward(ahead, place, place + 1);
  return ahead;
}

void Transition::set_permission(Permission permission) {
  const Permission held = page_.permission;
  page_.permission = permission;
  if (held == permission) return;
  switch (permission) {
    case Permission::kInvalid:
      return effects_.add(Effect::Kind::kZap);
    case Permission::kRead:
      return effects_.add(held == Permission::kWrite ? Effect::Kind::kProtect : Effect::Kind::kMapRead);
    case Permission::kWrite:
      return effects_.add(held == Permission::kRead ? Effect::Kind::kUnprotect : Effect::Kind::kMapWrite);
  }
}

void Transition::arm_retry() {
  const int shift = std::min<int>(round().attempts, 20);
  rounds_.arm(page_.round, now_.after(std::min(view_.retry_ns << shift, view_.retry_ns_max)));
}

bool Transition::take_round(bool local) {
  if (has_round()) {
    if (!local || round().local) return true;
    if (!rounds_.has_local_share()) return false;
    rounds_.set_local(page_.round, true);
    return true;
  }
  page_.round = rounds_.take(id_, local);
  return has_round();
}

Message Transition::make(MessageType type) const {
  Message message;
  message.type = type;
  message.from = view_.self;
  return message;
}

}  // namespace pagewire::protocol
