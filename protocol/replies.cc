// What the one who asked does with the answers: copy reply, ownership transfer, ack, not-owner, held. Only
// the page's loop calls it.
#include <algorithm>

#include "protocol/rules.h"
#include "protocol/transition.h"

namespace pagewire::protocol {

// R6: only if its transaction is pending and the version is at or above our own floor.
void Transition::on_copy_reply(const Message& message) {
  const bool pending = has_round() && round().transaction == message.transaction;
  if (stage() != Stage::kRequesting || (!pending && keeps(Rule::kOnlyPending))) {
    return rounds_.count(Event::kStale);
  }
  if (message.version < page_.floor && keeps(Rule::kAtOrAboveFloor)) {
    // We promised more meanwhile: ask again, with the floor that we have now.
    rounds_.count(Event::kBelowFloor);
    return send_request();
  }
  const bool have_them = message.data_version == page_.data_version;
  if (!have_them && !message.has_bytes) return rounds_.count(Event::kRefused);
  if (!have_them) effects_.add(Effect::Kind::kInstall);
  page_.version = message.version;
  page_.floor = std::max(page_.floor, message.version);
  page_.data_version = message.data_version;
  page_.hint = message.from;
  set_permission(Permission::kRead);
  granted_locally();
}

// R9: accepted only if the epoch is above our own, else acknowledged again.
void Transition::on_transfer(const Message& message) {
  Message accepted = make(MessageType::kTransferAck);
  accepted.epoch = message.epoch;
  if (message.epoch <= page_.epoch && keeps(Rule::kOnlyAboveEpoch)) {
    rounds_.count(Event::kStale);
    if (keeps(Rule::kAcknowledgedAgain)) effects_.send(NodeSet::of(message.from), accepted);
    return;
  }
  const bool have_them = message.data_version == page_.data_version;
  if (page_.owner || stage() == Stage::kHandingOver || (!have_them && !message.has_bytes)) {
    return rounds_.count(Event::kRefused);  // it is repeated until it can be accepted
  }
  if (!have_them) {
    set_permission(Permission::kInvalid);
    effects_.add(Effect::Kind::kInstall);
  }
  effects_.send(NodeSet::of(message.from), accepted);
  accept_ownership(message);
}

void Transition::accept_ownership(const Message& message) {
  page_.owner = true;
  page_.fresh = false;
  page_.sharing = message.sharing;
  page_.epoch = message.epoch;
  page_.version = message.version;
  page_.data_version = message.data_version;
  page_.copyset = message.copyset.without(view_.self);
  page_.granted = message.granted;
  page_.hint = view_.self;
  if (stage() != Stage::kRequesting) {  // nobody asked, or no longer: we own it, and hold what we held
    rounds_.count(Event::kUnsolicited);
    return;
  }
  page_.granted.add(view_.self, std::max(message.transaction, round().transaction));
  if (round().wants_write) return start_collecting(message.version, view_.grace_ns);
  set_permission(Permission::kRead);
  granted_locally();
}

void Transition::on_ack(const Message& message) {
  if (stage() != Stage::kCollecting && stage() != Stage::kRequesting) return rounds_.count(Event::kStale);
  Version& promised = round().promised[message.from.value];
  promised =
      std::max({promised, message.version, keeps(Rule::kPromiseIsAFloor) ? Version{} : round().new_version});
  try_complete();
}

// The hint was wrong: ask everybody. Who has asked everybody already, and missed the owner on its way from
// one node to the next, asks the next one; each hand-over is followed once, so nodes that point at each other
// end it.
void Transition::on_not_owner(const Message& message) {
  if (stage() != Stage::kRequesting || round().transaction != message.transaction) {
    return rounds_.count(Event::kStale);
  }
  const bool later = message.epoch > std::max(page_.epoch, round().followed) || !keeps(Rule::kFollowedOnce);
  if (round().asked_all && !later) return rounds_.count(Event::kStale);
  const bool usable = message.hint != view_.self && view_.members.contains(message.hint);
  const bool alone = round().asked_all && usable;
  round().followed = std::max(round().followed, message.epoch);
  round().asked_all = true;
  send_request_to(alone ? NodeSet::of(message.hint) : view_.others(), alone);
}

// Who holds the page is asked again, half way to the end of the hold; sooner if that is far, for the threads
// there may have had their turn long before, and then less and less often. Only the deadline moves, and who
// is asked at it; the repetition comes after that as ever.
void Transition::on_held(const Message& message) {
  const bool request = stage() == Stage::kRequesting && message.transaction == round().transaction;
  const bool floor =
      stage() == Stage::kCollecting && round().asked_all && message.version == round().new_version;
  if (!request && !floor) return rounds_.count(Event::kStale);
  constexpr std::uint64_t kSoonestNs = 4'000;
  constexpr std::uint64_t kFirstNs = 16'000;
  const int shift = std::min<int>(round().held_answers, 20);
  const std::uint64_t wait_ns =
      std::max(std::min<std::uint64_t>(message.wait_ns / 2, kFirstNs << shift), kSoonestNs);
  if (round().held_by.empty()) round().held_answers = static_cast<std::uint8_t>(shift + 1);
  round().held_by.add(message.from);
  rounds_.arm(page_.round, std::min(rounds_.deadline(page_.round), now_.after(wait_ns)));
}

}  // namespace pagewire::protocol
