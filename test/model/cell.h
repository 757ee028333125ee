// One node of the explored cluster as a value: its entries, its rounds, its bytes; and one step of it, taken
// by the real transition functions. Plain functions, any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "protocol/core.h"
#include "test/model/carry_out.h"

namespace pagewire::model {

inline constexpr std::size_t kNodesMax = 4;
inline constexpr std::size_t kPagesMax = 4;

// How nodes begin another life, one by one, while frames of the old one are still on their way (R11).
enum class Restart : std::uint8_t { kNone, kNewBoot, kNewView };

// How large a cluster is explored, and how far.
struct Bounds {
  std::uint32_t nodes = 3;
  std::uint32_t pages = 1;
  std::uint32_t faults = 3;   // accesses asked for in total
  std::uint32_t stores = 2;   // stores to each page in total
  std::uint32_t forgets = 0;  // how often an owner may lose its list of granted requests
  std::uint32_t rounds = 4;   // each node's pool
  bool grace =
      false;  // a new owner waits for promises before it asks for them (as long as no time-out comes)
  bool migratory = false;  // the page begins as one that nodes load and then store to in turns
  bool hold = false;       // what arrives is held until a step of its own says that the time is over
  bool losses = true;      // once, all that is on its way may be lost: I6 then rests on repeats alone
  bool overhear = false;   // a shared medium: every node hears every message
  // Each link delivers in order and once, and no time-out repeats anything; a hand-over's acknowledgement
  // overtakes no request that was sent to the same node before. Then nobody may be left waiting. Without
  // losses.
  bool in_order = false;
  bool fold = true;             // states that differ only by the names of nodes are one
  bool only_coherence = false;  // of the complaints about single steps none counts, only I1 to I6
  Restart restart = Restart::kNone;
  protocol::Placement placement = protocol::Placement::kOneNode;  // node 0
  std::size_t states_max = 2'000'000'000;
};

// A page at a node. What only concerns time is normalised away: a deadline is armed or not, a hold is on or
// not.
struct PageCell {
  protocol::PageEntry entry;  // entry.round: 0 or kNoRound
  protocol::Round round;
  bool armed = false;
  bool dropped_for_heard = false;  // the copy was dropped for the write request that was heard last
  bool refused_read = false;       // a read fault was told `busy`, and is to be asked again
  bool refused_write = false;      // the same for a write fault
  Memory memory;
};

struct NodeCell {
  protocol::NodeId self{};
  std::uint8_t life = 0;
  std::array<PageCell, kPagesMax> pages{};
};

// A message on its way to one node.
struct Envelope {
  std::uint8_t to = 0;
  std::uint8_t page = 0;
  std::uint8_t value = 0;  // the bytes, if message.has_bytes
  std::uint8_t life = 0;   // of its sender
  protocol::Message message{};
};

struct Action {
  enum class Kind : std::uint8_t {
    kReadFault,
    kWriteFault,
    kTimeout,
    kHoldOver,
    kTurnTaken,
    kForget,
    kStore,
    kRestart,
    kLoseAll,
    kDeliver,
  };
  Kind kind = Kind::kReadFault;
  std::uint8_t page = 0;
  std::uint8_t value = 0;              // kStore: what; kRestart: the owner in the next life
  const Envelope* envelope = nullptr;  // kDeliver; to another than its receiver: overheard
};

struct Step {
  bool possible = false;            // false: nothing of the kind can happen in this state
  const char* complaint = nullptr;  // what this step alone breaks
  bool let_on = false;              // threads that wait for the page go on or try again
  NodeCell after{};
  std::vector<Envelope> sent{};
};

// A thread waits, of which the page knows nothing: its fault was told `busy`.
constexpr bool is_refused(const PageCell& page, protocol::Access access) {
  return access == protocol::Access::kRead ? page.refused_read : page.refused_write;
}

// What is under way there ends by time alone, and no message is repeated by that: a hold, or a grace.
bool waits_for_time(const PageCell& page);

NodeCell initial_cell(const Bounds& bounds, protocol::NodeId self);
// Runs the transition and carries its effects out; complains if the mapping or the pool does not go with
// them.
Step take_step(const Bounds& bounds, const NodeCell& before, const Action& action);
// I5, R5, R10, and that nobody who waits is forgotten: whatever one step of one node must keep. Complaint or
// nullptr.
const char* check_step(const NodeCell& before, const Action& action, const Step& step);

// All of a cell or envelope as bytes: equal if and only if the values are equal. Throws std::length_error if
// a counter has grown out of all bounds.
std::string encode(const Bounds& bounds, const NodeCell& cell);
std::string encode(const Envelope& envelope);

std::string describe(const Envelope& envelope);
std::string describe(const Bounds& bounds, const NodeCell& cell);
std::string describe(const Action& action, protocol::NodeId self);
const char* name_of(protocol::MessageType type);

}  // namespace pagewire::model
