// What the owner and the holders of copies do when others ask: copy request, write request, invalidate, and
// the acknowledgement of a hand-over. Only the page's loop calls it.
#include <algorithm>

#include "protocol/rules.h"
#include "protocol/transition.h"

namespace pagewire::protocol {

// Rows 5 and 6. R3: only the owner answers, and it adds the reader to the copyset before it sends the data.
void Transition::on_copy_request(const Message& message) {
  const bool may_answer =
      page_.owner || (!keeps(Rule::kOnlyOwnerAnswers) && page_.permission == Permission::kRead);
  if (!may_answer) return turn_away(message);
  if (was_granted(message)) return rounds_.count(Event::kAlreadyGranted);
  if (stage() == Stage::kCollecting && keeps(Rule::kCollectingOwnerWaits)) return defer(message);
  const bool still_stores = page_.permission == Permission::kWrite || page_.sharing.is_migratory();
  if (still_stores && holding()) return defer_while_held(message);
  forget_deferred(message);
  if (page_.fresh || moves_to_reader())
    return hand_over(message.from, message.transaction, message.data_version);
  if (page_.sharing.is_migratory()) page_.sharing = page_.sharing.less_sure();  // no store in its turn
  if (page_.permission == Permission::kWrite) set_permission(Permission::kRead);
  if (keeps(Rule::kVersionReachesReader)) {  // else a reader that promised more could never read again
    page_.version = std::max(page_.version, message.version);
  }
  if (keeps(Rule::kReaderInCopyset)) page_.copyset.add(message.from);
  Message reply = make(MessageType::kCopyReply);
  reply.transaction = message.transaction;
  reply.version = page_.version;
  reply.data_version = page_.data_version;
  reply.has_bytes = message.data_version != page_.data_version;
  effects_.send(NodeSet::of(message.from), reply);
}

// Rows 9 and 10. The owner hands over at once; a holder drops its copy and promises to the writer at once:
// two delays.
void Transition::on_write_request(const Message& message) {
  if (!page_.owner) {
    drop_copy_for(message);
    return turn_away(message);
  }
  if (was_granted(message)) return rounds_.count(Event::kAlreadyGranted);
  if (stage() == Stage::kCollecting && keeps(Rule::kCollectingOwnerWaits)) return defer(message);
  if (page_.permission != Permission::kInvalid && holding()) return defer_while_held(message);
  forget_deferred(message);
  page_.sharing = sharing_with(message);
  hand_over(message.from, message.transaction, message.data_version);
}

// A store of the one node that has a copy, of what was stored here: it loaded the page before. Nodes that use
// it so in turns need two faults each time, unless the page is handed over at the load. Once may be chance (a
// reader that happens to write); and a page that is read by many should not move to the first of them. A
// store of a node that had no copy leaves the question as it is, if this node has stored, too. (Stenström,
// Brorsson and Sandberg, An adaptive cache coherence protocol optimized for migratory sharing, 1993; Cox and
// Fowler, the same year.)
Sharing Transition::sharing_with(const Message& writer) const {
  if (page_.copyset.empty()) {
    const bool no_store = page_.sharing.is_migratory() && page_.permission != Permission::kWrite;
    return no_store ? page_.sharing.less_sure() : page_.sharing;
  }
  const bool loaded = page_.copyset == NodeSet::of(writer.from) && writer.data_version == page_.data_version;
  const bool stored = page_.data_version == page_.version && page_.version > Version{1};
  return loaded && stored ? page_.sharing.surer() : Sharing{};
}

// The reader will store, as this node did after its own load: it gets the page whole, in Read, with nobody in
// the copyset; so its store asks nobody. If it does not store, the next reader gets a copy.
bool Transition::moves_to_reader() {
  return page_.sharing.is_migratory() && page_.permission == Permission::kWrite && take_round(false);
}

// A request comes to a node that is not the owner. Who asks for the page may be it soon, even if only for a
// copy (a fresh or migratory page is handed over), and lets the request wait. Who was asked alone, or gives
// the page away just now, says who is next: else nobody would have heard the request, and it would be for its
// repetition to find the owner.
void Transition::turn_away(const Message& message) {
  const bool handing_over = stage() == Stage::kHandingOver;
  if (stage() == Stage::kRequesting) defer(message);
  if (!message.direct) {
    if (!handing_over || round().target == message.from || !keeps(Rule::kSaysWhoIsNext)) return;
    if (was_granted(message)) return rounds_.count(Event::kAlreadyGranted);
  }
  rounds_.count(Event::kNotOwner);
  Message answer = make(MessageType::kNotOwner);
  answer.transaction = message.transaction;
  answer.hint = page_.hint;
  answer.epoch = handing_over ? page_.epoch.next() : page_.epoch;
  effects_.send(NodeSet::of(message.from), answer);
}

// A holder hears that somebody wants to write. R7: the promise comes after the zap in the list of effects. A
// node that holds nothing says nothing: if the owner thinks otherwise, the writer asks for the floor by name.
void Transition::drop_copy_for(const Message& message) {
  const bool heard = page_.heard_node == message.from && page_.heard >= message.transaction;
  if (heard && keeps(Rule::kHeardOnce)) return;
  if (page_.permission == Permission::kRead && holding()) return defer_while_held(message);
  forget_deferred(message);
  page_.heard_node = message.from;
  page_.heard = message.transaction;
  if (stage() != Stage::kHandingOver) page_.hint = message.from;
  if (page_.permission != Permission::kRead) return;
  const Version floor = std::max(page_.floor, page_.version.next());
  if (keeps(Rule::kFloorByWriteRequest)) page_.floor = floor;
  drop_and_promise(message.from, floor);
}

// The owner that collects asks for a floor. R5: it only grows, so a doubled or late one does no harm.
void Transition::on_invalidate(const Message& message) {
  if (page_.owner) return;  // of an owner before us
  const bool must_drop = page_.permission != Permission::kInvalid && page_.version < message.version;
  if (must_drop && holding()) return defer_while_held(message);
  forget_deferred(message);
  const Version floor =
      keeps(Rule::kFloorOnlyGrows) ? std::max(page_.floor, message.version) : message.version;
  if (keeps(Rule::kFloorByInvalidate)) page_.floor = floor;
  if (stage() != Stage::kHandingOver) page_.hint = message.from;
  if (must_drop) return drop_and_promise(message.from, floor);
  promise(message.from, floor);
}

// R7: the zap first.
void Transition::drop_and_promise(NodeId to, Version floor) {
  if (keeps(Rule::kZapBeforePromise)) set_permission(Permission::kInvalid);
  promise(to, floor);
  set_permission(Permission::kInvalid);
}

void Transition::promise(NodeId to, Version floor) {
  Message ack = make(MessageType::kAck);
  ack.version = floor;
  effects_.send(NodeSet::of(to), ack);
}

// R10.
bool Transition::was_granted(const Message& message) const {
  return page_.granted.covers(message.from, message.transaction) && keeps(Rule::kGrantedIsDropped);
}

// R8: stop own access, stop being owner, send, keep the bytes, repeat until acknowledged.
void Transition::hand_over(NodeId to, Transaction transaction, Version their_data) {
  if (!take_round(false)) return rounds_.count(Event::kBusy);
  if (keeps(Rule::kStopsAccess)) set_permission(Permission::kInvalid);
  if (keeps(Rule::kStopsOwning)) page_.owner = false;
  page_.fresh = false;
  page_.hint = to;
  page_.hold_until = Time{};
  page_.granted.add(to, transaction);
  Round& retained = round();
  retained.stage = Stage::kHandingOver;
  retained.target = to;
  retained.transaction = transaction;
  retained.new_version = keeps(Rule::kVersionRises) ? page_.version.next() : page_.version;
  retained.copyset = page_.copyset.without(to);
  retained.held_by = NodeSet{};
  retained.attempts = 0;
  page_.floor = std::max(page_.floor, retained.new_version);
  page_.copyset = NodeSet{};
  send_transfer(their_data != page_.data_version);
  arm_retry();
  replay_deferred();
  if (!keeps(Rule::kKeptUntilAcknowledged) && stage() == Stage::kHandingOver)
    hand_over_is_done(page_.epoch.next());
}

void Transition::send_transfer(bool with_bytes) {
  Message transfer = make(MessageType::kOwnershipTransfer);
  transfer.transaction = round().transaction;
  transfer.version = round().new_version;
  transfer.data_version = page_.data_version;
  transfer.epoch = keeps(Rule::kEpochRises) ? page_.epoch.next() : page_.epoch;
  if (keeps(Rule::kCopysetTravels)) transfer.copyset = round().copyset;
  if (keeps(Rule::kGrantedTravels)) transfer.granted = page_.granted;
  transfer.has_bytes = with_bytes;
  transfer.sharing = page_.sharing;
  effects_.send(NodeSet::of(round().target), transfer);
}

void Transition::on_transfer_ack(const Message& message) {
  if (stage() != Stage::kHandingOver || message.from != round().target ||
      message.epoch != page_.epoch.next()) {
    return rounds_.count(Event::kStale);
  }
  hand_over_is_done(message.epoch);
}

void Transition::hand_over_is_done(Epoch epoch) {
  page_.epoch = epoch;
  page_.sharing = {};
  if (!round().wants_read && !round().wants_write) return finish_round();
  start_request();
  replay_deferred();
}

}  // namespace pagewire::protocol
