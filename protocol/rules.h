// The rules of coherence by name. Tests have a build of their own (//protocol:switchable) in which each can
// be switched off, to show that the checker and the simulator notice; in the shipped build keeps() is the
// constant true and nothing of this is left. docs/proof.md lists who catches what.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagewire::protocol {

enum class Rule : std::uint8_t {
  kTransactionsGrow,       // R2: a new request has a new transaction
  kOnlyOwnerAnswers,       // R3: a holder of a copy does not hand out copies
  kReaderInCopyset,        // R3: the reader is in the copyset before the data leaves
  kCollectingOwnerWaits,   // R3: two writers at once: an owner that collects serves nobody
  kCopysetPromises,        // R4: Write only once everybody has promised
  kPromiseIsAFloor,        // R4, R5: a promise counts by its floor: that of an older round does not
  kFloorByInvalidate,      // R5: who promises keeps the floor
  kFloorByWriteRequest,    // R5: the same for the promise that nobody asked for
  kFloorOnlyGrows,         // R5: a late invalidate does not lower it
  kOnlyPending,            // R6: data of the pending transaction alone
  kAtOrAboveFloor,         // R6: an invalidate that overtakes the data
  kZapBeforePromise,       // R7
  kStopsAccess,            // R8: hand-over: zap
  kStopsOwning,            // R8: hand-over: not the owner any more
  kVersionRises,           // R8: hand-over: version + 1
  kEpochRises,             // R8: hand-over: epoch + 1
  kCopysetTravels,         // R8
  kTransferIsRepeated,     // R8: until it is acknowledged
  kKeptUntilAcknowledged,  // R8: the bytes, and that it is under way
  kNeverResumes,           // R8: a fault meanwhile does not make it the owner again
  kOnlyAboveEpoch,         // R9: a doubled transfer is not accepted twice
  kAcknowledgedAgain,      // R9
  kGrantedTravels,         // R10
  kGrantedIsDropped,       // R10: a late double does not move the page
  kBootId,                 // R11: frames of another life of the sender
  kViewNumber,             // R11: frames of another membership
  kAddressed,              // frames that a shared medium floods: not for us
  kHeardOnce,              // two delays: a doubled write request does not invalidate twice
  kVersionReachesReader,   // two delays: the owner's version rises to the reader's floor
  kTagOfTenure,            // two delays: "you have the bytes" by the tenure that wrote them
  kOneRequest,             // a fault while something is under way starts nothing beside it
  kReserveForOthers,       // own faults leave rounds for what others ask
  kSaysWhoIsNext,          // no wait: a node that hands over tells who asks it then
  kFollowedOnce,           // no wait: a hand-over's hint is followed once
  kTurnedAwayFirst,        // no wait: who was turned away before goes first
  kTurnEndsHold,           // no wait: the turn taken, who waits is served
  kCount,
};
inline constexpr std::size_t kRules = static_cast<std::size_t>(Rule::kCount);

#ifdef PAGEWIRE_SWITCHABLE_RULES
// Tests alone; not for several threads.
bool keeps(Rule rule);
void switch_off(Rule rule);
void switch_all_on();
const char* rule_name(Rule rule);  // "R3 only the owner answers"
#else
constexpr bool keeps(Rule /*rule*/) { return true; }
#endif

}  // namespace pagewire::protocol
