// What a page needs while something is under way: from a bounded pool, one round a page at the most. One loop
// owns a pool and all pages that use it. Nothing here allocates: the storage is the caller's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "protocol/message.h"
#include "protocol/page.h"
#include "protocol/rules.h"
#include "protocol/types.h"

namespace pagewire::protocol {

enum class Stage : std::uint8_t {
  kFree = 0,
  kRequesting = 1,   // asked for a copy or for ownership
  kCollecting = 2,   // owner: waits for the copyset's promises, then Write
  kHolding = 3,      // nothing of our own; messages wait until hold_until
  kHandingOver = 4,  // gave ownership away, repeats until that is acknowledged (R8)
};

inline constexpr std::size_t kDeferredMax = 8;

// A message without bytes that waits until the page can serve it. The sender cannot tell that from a slow
// network.
struct Deferred {
  MessageType type = MessageType::kCopyRequest;
  NodeId from{};
  bool direct = false;
  Transaction transaction{};
  Version version{};
  Version data_version{};
  bool operator==(const Deferred&) const = default;
};

struct Round {
  Stage stage = Stage::kFree;
  PageId page{};
  bool local = false;             // taken for a fault of this node (counts against the local share)
  bool wants_read = false;        // threads of this node wait for a load
  bool wants_write = false;       // ... for a store
  bool asked_all = false;         // kRequesting: not only the hint was asked
  std::uint8_t attempts = 0;      // repeats so far, for the backoff
  std::uint8_t held_answers = 0;  // kHeld so far, likewise
  NodeId target = kNoNode;        // kHandingOver: to whom
  Transaction transaction{};      // kRequesting: ours; kHandingOver: the one granted
  Epoch followed{};               // kRequesting: the latest hand-over whose hint was followed
  Version new_version{};          // kCollecting: the tenure to come; kHandingOver: the transfer's version
  NodeSet copyset{};              // kHandingOver: what travels
  NodeSet held_by{};              // kRequesting, kCollecting: who said kHeld; asked again at the deadline
  std::uint8_t deferred_count = 0;
  std::array<Deferred, kDeferredMax> deferred{};
  std::array<Version, kNodesMax> promised{};  // floors, by node

  bool operator==(const Round&) const = default;
};

// Things worth counting that are no error of ours.
enum class Event : std::uint8_t {
  kBusy,            // a message dropped because the pool was empty
  kStale,           // an answer to nothing that is pending
  kBelowFloor,      // data older than our own promise (R6)
  kAlreadyGranted,  // a request that was granted before (R10)
  kDeferred,        // messages that had to wait
  kDeferredLost,    // messages that found the waiting room full
  kNotOwner,        // requests that were told who owns the page, or will
  kUnsolicited,     // ownership that came unasked
  kRepeated,        // time-outs that sent something again
  kAskedAgain,      // nodes that held a page and were asked again when that was over
  kRefused,         // transfers that could not be accepted in this state
};
inline constexpr std::size_t kEvents = 11;

// Local faults may fill the pool but for a reserve, so that two nodes full of their own faults can still
// serve each other.
class Rounds {
 public:
  // `rounds` and `deadlines` have the same length, at most kNoRound.
  Rounds(std::span<Round> rounds, std::span<Time> deadlines);

  // The index of a round for this page, or kNoRound. `local` rounds leave the reserve alone.
  std::uint16_t take(PageId page, bool local);
  void give_back(std::uint16_t index);
  // The round no longer serves a fault of this node alone.
  void set_local(std::uint16_t index, bool local);
  bool has_local_share() const { return local_count_ < local_max_ || !keeps(Rule::kReserveForOthers); }
  bool has_room_for_local() const { return has_local_share() && free_ != kNoRound; }

  Round& operator[](std::uint16_t index) { return rounds_[index]; }
  const Round& operator[](std::uint16_t index) const { return rounds_[index]; }

  void arm(std::uint16_t index, Time deadline);
  Time deadline(std::uint16_t index) const { return deadlines_[index]; }
  // At or before the earliest deadline of all; kNever if nothing is under way.
  Time next_deadline() const { return next_deadline_; }
  // The same, without the ends of holds: who waits for one asks again, so nobody has to wake up for it.
  Time next_wake() const { return next_wake_; }
  // An expired round at or after `from`, or kNoRound; call with 0 first. A full pass makes next_deadline()
  // exact.
  std::uint16_t next_expired(Time now, std::uint16_t from);

  std::size_t in_use() const { return used_count_; }
  std::size_t capacity() const { return rounds_.size(); }
  std::uint64_t events(Event event) const { return events_[static_cast<std::size_t>(event)]; }
  void count(Event event) { ++events_[static_cast<std::size_t>(event)]; }

 private:
  std::span<Round> rounds_;
  std::span<Time> deadlines_;
  std::uint16_t free_ = kNoRound;  // list through Round::page.index
  std::uint16_t high_ = 0;         // no round at or above it was ever used
  std::size_t used_count_ = 0;
  std::size_t local_count_ = 0;
  std::size_t local_max_ = 0;
  Time next_deadline_ = kNever;
  Time next_wake_ = kNever;
  std::array<std::uint64_t, kEvents> events_{};
};

}  // namespace pagewire::protocol
