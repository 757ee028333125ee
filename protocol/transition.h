// The inside of the core: one page, one event. Not for callers; core.h is.
#pragma once

#include "protocol/core.h"

namespace pagewire::protocol {

class Transition {
 public:
  Transition(const View& view, PageRef page, Time now, Effects& effects)
      : view_(view), id_(page.id), page_(page.entry), rounds_(page.rounds), now_(now), effects_(effects) {}

  Outcome fault(Access access);
  void message(const Message& message);
  void timeout();
  void turn_taken();

 private:
  // requests.cc: what the owner and the holders do
  void on_copy_request(const Message& message);
  void on_write_request(const Message& message);
  void on_invalidate(const Message& message);
  void turn_away(const Message& message);
  void drop_copy_for(const Message& message);
  void hand_over(NodeId to, Transaction transaction, Version their_data);
  void send_transfer(bool with_bytes);
  void on_transfer_ack(const Message& message);
  void hand_over_is_done(Epoch epoch);
  void drop_and_promise(NodeId to, Version floor);
  void promise(NodeId to, Version floor);
  bool was_granted(const Message& message) const;
  Sharing sharing_with(const Message& writer) const;
  bool moves_to_reader();

  // replies.cc: what the one who asked does
  void on_copy_reply(const Message& message);
  void on_transfer(const Message& message);
  void on_ack(const Message& message);
  void on_not_owner(const Message& message);
  void on_held(const Message& message);
  void accept_ownership(const Message& message);

  // core.cc: faults, rounds, permissions
  Outcome fault_as_owner(Access access);
  void start_request();
  void send_request();
  void send_request_to(NodeSet to, bool direct);
  void start_collecting(Version new_version, std::uint64_t grace_ns);
  void send_invalidates(NodeSet to);
  void ask_again();
  void try_complete();
  void grant_write(Version new_version);
  void granted_locally();
  void finish_round();
  void replay_deferred();
  void defer(const Message& message);
  void defer_while_held(const Message& message);
  void tell_held(const Deferred& waiting);
  void forget_deferred(const Message& served);
  Deferred* put_in_line(Deferred* place, bool goes_ahead);
  void handle_again(const Deferred& waited);
  void set_permission(Permission permission);
  void arm_retry();

  bool has_round() const { return page_.round != kNoRound; }
  Round& round() { return rounds_[page_.round]; }
  Stage stage() const { return has_round() ? rounds_[page_.round].stage : Stage::kFree; }
  bool take_round(bool local);
  // What was just granted stays for a moment; not if its threads have had their turn and ask for more
  // already.
  bool holding() const {
    const Stage at = has_round() ? rounds_[page_.round].stage : Stage::kFree;
    return now_ < page_.hold_until && (at == Stage::kFree || at == Stage::kHolding);
  }
  NodeSet lacking_promise(Version version);
  Message make(MessageType type) const;

  const View& view_;
  PageId id_;
  PageEntry& page_;
  Rounds& rounds_;
  Time now_;
  Effects& effects_;
};

}  // namespace pagewire::protocol
