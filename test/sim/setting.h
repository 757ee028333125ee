// What a seed decides before the first step: the cluster, what its threads do, and how bad the weather is.
// Plain values; any thread.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "protocol/page.h"
#include "test/sim/random.h"

namespace pagewire::sim {

inline constexpr std::uint32_t kNodesMax = 8;
inline constexpr std::uint32_t kPagesMax = 64;
inline constexpr std::uint32_t kThreadsMax = 3;  // of a node

enum class Mix : std::uint8_t {
  kUniform,     // any page
  kHot,         // seven in eight accesses on an eighth of the pages
  kPingPong,    // all write the same page
  kReadMostly,  // one store in thirty-two
  kOwnPage,     // mostly a page of one's own, at times a neighbour's
};
inline constexpr std::size_t kMixes = 5;

// Things that befall the cluster again and again; the mean time between two of them, 0: never.
enum class Calamity : std::uint8_t {
  kClog,            // a link holds its frames for a while and delivers them in a burst
  kCutOneWay,       // a link loses everything for a while
  kCutTwoWay,       // the nodes fall into two halves that do not hear each other
  kPause,           // a node stands still, as under SIGSTOP
  kRestartOne,      // a node loses everything and comes back in a new life that nobody knows
  kRestartBoot,     // all nodes start anew, in new lives
  kRestartView,     // all nodes start anew, in the same lives, in the next view
  kStrangerSpeaks,  // a node in a new life that nobody knows asks for pages
};
inline constexpr std::size_t kCalamities = 8;
const char* calamity_name(Calamity calamity);

struct Setting {
  std::uint8_t nodes = 2;
  std::uint32_t pages = 1;
  std::uint32_t rounds = 4;   // of a node's pool
  std::uint32_t threads = 1;  // of a node
  protocol::Placement placement = protocol::Placement::kCyclic;
  protocol::NodeId placement_node{};
  std::uint64_t hold_ns = 0;  // at the most: the turn taken, it ends
  std::uint64_t grace_ns = 0;
  std::uint64_t retry_ns = 0;
  std::uint64_t retry_ns_max = 0;

  Mix mix = Mix::kUniform;
  std::uint32_t store_share = 0;     // shares are of 65,536
  std::uint32_t prefetch_share = 0;  // asked for ahead of need: nobody waits
  std::uint64_t think_ns = 0;        // between a thread's accesses, at the most
  std::uint64_t wake_ns = 0;         // from the mapping to the access, at the most
  std::uint64_t ring_ns = 0;         // from the fault to the loop, at the most
  bool sees_turns = false;           // the data plane finds out that woken threads have run; else holds last
  std::uint64_t turn_ns = 0;         // from that to its telling the protocol, at the most
  std::uint32_t false_turns = 0;     // of the faults: a turn is told that nobody had

  std::uint64_t delay_ns = 0;   // of a link: from a quarter of this to this
  std::uint64_t jitter_ns = 0;  // on top, at the most; one frame in sixteen up to sixteen times that
  bool in_order = true;         // a link's frames do not overtake each other but for `reordering`
  std::uint32_t loss = 0;       // of the worst link
  std::uint32_t doubling = 0;   // of the worst link
  std::uint32_t reordering = 0;
  std::uint32_t lateness = 0;  // a second copy comes very late
  std::uint64_t late_ns = 0;   // at the most
  std::uint32_t flooding = 0;  // all hear it, the sender too
  std::uint32_t garbage = 0;   // arrives as something that is no frame
  std::array<std::uint64_t, kCalamities> gap_ns{};
  std::uint64_t calamity_ns = 0;  // how long a clog, a cut or a pause lasts, at the most

  // Nothing is lost, doubled, held up or overtaken: no request may have to be repeated.
  bool calm = false;

  std::uint64_t gap(Calamity calamity) const { return gap_ns[static_cast<std::size_t>(calamity)]; }
  // Own requests that a node can have under way.
  std::uint32_t local_rounds() const { return rounds - (rounds + 3) / 4; }
  // What arrives stays until a woken thread has used it. Else it may be passed on before each time, for ever:
  // with a shorter hold, that it was granted is all that can be demanded.
  bool hold_suffices() const { return hold_ns > wake_ns; }
  // How long a page stays with threads that want it.
  std::uint64_t held_ns() const {
    return sees_turns ? std::min(hold_ns, 2 * (wake_ns + turn_ns) + ring_ns) : hold_ns;
  }
  // The longest that a frame is on its way in a whole network, but for late copies.
  std::uint64_t delay_ns_max() const { return delay_ns + 16 * jitter_ns; }
};

// Draws from `random` alone, which goes on to decide the run.
Setting draw_setting(Random& random);
// As shipped, on a good network, with rounds enough for every page.
void make_calm(Setting& setting);
std::string describe(const Setting& setting);

}  // namespace pagewire::sim
