// What the owner and the holders of copies do when others ask: copy request, write request, invalidate, and
// the acknowledgement of a hand-over. Only the page's loop calls it.
#include <algorithm>

#include "protocol/transition.h"

namespace pagewire::protocol {

// Rows 5 and 6. R3: only the owner answers, and it adds the reader to the copyset before it sends the data.
void Transition::on_copy_request(const Message& message) {
  if (!page_.owner) {
    if (message.direct) {
      rounds_.count(Event::kNotOwner);
      Message answer = make(MessageType::kNotOwner);
      answer.transaction = message.transaction;
      answer.hint = page_.hint;
      return effects_.send(NodeSet::of(message.from), answer);
    }
    if (stage() == Stage::kRequesting && round().wants_write) defer(message);  // we may be the owner soon
    return;
  }
  if (page_.granted.covers(message.from, message.transaction)) return rounds_.count(Event::kAlreadyGranted);
  if (stage() == Stage::kCollecting) return defer(message);
  if (page_.permission == Permission::kWrite && holding()) return defer(message);
  if (page_.fresh) return hand_over(message.from, message.transaction, message.data_version);
  if (page_.permission == Permission::kWrite) set_permission(Permission::kRead);
  page_.version =
      std::max(page_.version, message.version);  // else a reader that promised more could never read again
  page_.copyset.add(message.from);
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
    if (stage() == Stage::kRequesting && round().wants_write) defer(message);  // we may be the owner soon
    return;
  }
  if (page_.granted.covers(message.from, message.transaction)) return rounds_.count(Event::kAlreadyGranted);
  if (stage() == Stage::kCollecting) return defer(message);
  if (page_.permission != Permission::kInvalid && holding()) return defer(message);
  hand_over(message.from, message.transaction, message.data_version);
}

// A holder hears that somebody wants to write. R7: the promise comes after the zap in the list of effects. A
// node that holds nothing says nothing: if the owner thinks otherwise, the writer asks for the floor by name.
void Transition::drop_copy_for(const Message& message) {
  if (page_.heard_node == message.from && page_.heard >= message.transaction) return;
  if (page_.permission == Permission::kRead && holding()) return defer(message);
  page_.heard_node = message.from;
  page_.heard = message.transaction;
  if (stage() != Stage::kHandingOver) page_.hint = message.from;
  if (page_.permission != Permission::kRead) return;
  set_permission(Permission::kInvalid);
  page_.floor = std::max(page_.floor, page_.version.next());
  Message promise = make(MessageType::kAck);
  promise.version = page_.floor;
  effects_.send(NodeSet::of(message.from), promise);
}

// The owner that collects asks for a floor. R5: it only grows, so a doubled or late one does no harm.
void Transition::on_invalidate(const Message& message) {
  if (page_.owner) return;  // of an owner before us
  const bool must_drop = page_.permission != Permission::kInvalid && page_.version < message.version;
  if (must_drop && holding()) return defer(message);
  if (must_drop) set_permission(Permission::kInvalid);
  page_.floor = std::max(page_.floor, message.version);
  if (stage() != Stage::kHandingOver) page_.hint = message.from;
  Message promise = make(MessageType::kAck);
  promise.version = page_.floor;
  effects_.send(NodeSet::of(message.from), promise);
}

// R8: stop own access, stop being owner, send, keep the bytes, repeat until acknowledged.
void Transition::hand_over(NodeId to, Transaction transaction, Version their_data) {
  if (!take_round(false)) return rounds_.count(Event::kBusy);
  set_permission(Permission::kInvalid);
  page_.owner = false;
  page_.fresh = false;
  page_.hint = to;
  page_.hold_until = Time{};
  page_.granted.add(to, transaction);
  Round& retained = round();
  retained.stage = Stage::kHandingOver;
  retained.target = to;
  retained.transaction = transaction;
  retained.new_version = page_.version.next();
  retained.copyset = page_.copyset.without(to);
  retained.attempts = 0;
  page_.floor = std::max(page_.floor, retained.new_version);
  page_.copyset = NodeSet{};
  send_transfer(their_data != page_.data_version);
  arm_retry();
  replay_deferred();
}

void Transition::send_transfer(bool with_bytes) {
  Message transfer = make(MessageType::kOwnershipTransfer);
  transfer.transaction = round().transaction;
  transfer.version = round().new_version;
  transfer.data_version = page_.data_version;
  transfer.epoch = page_.epoch.next();
  transfer.copyset = round().copyset;
  transfer.granted = page_.granted;
  transfer.has_bytes = with_bytes;
  effects_.send(NodeSet::of(round().target), transfer);
}

void Transition::on_transfer_ack(const Message& message) {
  if (stage() != Stage::kHandingOver || message.from != round().target ||
      message.epoch != page_.epoch.next()) {
    return rounds_.count(Event::kStale);
  }
  page_.epoch = message.epoch;
  if (!round().wants_read && !round().wants_write) return finish_round();
  start_request();
  replay_deferred();
}

}  // namespace pagewire::protocol
