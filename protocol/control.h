// How nodes join, open regions, meet at barriers and leave: each tells the others its whole state, again and
// again while it waits, so loss, doubling and overtaking do no harm. Pure, like the rest of protocol/: no
// clock, no I/O.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "protocol/page.h"
#include "protocol/types.h"

namespace pagewire::protocol {

inline constexpr std::size_t kRegionsMax = 64;
inline constexpr std::size_t kRegionNameMax = 48;
inline constexpr std::uint32_t kNoRegion = 0xffffffff;

// What a node says of itself.
struct Beat {
  std::uint64_t sequence = 0;       // grows with each change of the sender's state
  std::uint64_t echo = 0;           // to one node: the sequence last heard of it
  std::uint64_t barrier_count = 0;  // barriers that the sender has come to
  NodeSet heard{};                  // whose beats it has heard
  std::uint64_t region_base = 0;    // must be equal everywhere
  std::uint32_t loop_count = 0;     // must be equal everywhere
  std::uint32_t node_count = 0;     // must be equal everywhere
  bool wants_answer = false;
  bool leaving = false;
  bool operator==(const Beat&) const = default;
};

// A region as one node wants it.
struct RegionDeclaration {
  std::array<char, kRegionNameMax> name{};  // zero-padded
  std::uint64_t bytes = 0;
  Placement placement = Placement::kCyclic;
  std::uint8_t placement_node = 0;
  std::uint32_t attempt = 0;     // a later declaration of the same node and name replaces an earlier one
  std::uint32_t id = kNoRegion;  // only the lowest node gives it, with the offset from the region base
  std::uint64_t offset = 0;      // never falls from one attempt to the next
  bool active = false;           // the sender has mapped it and serves its pages
  bool wants_answer = false;

  std::string_view name_view() const;
  void set_name(std::string_view text);
  bool same_options(const RegionDeclaration& other) const {
    return bytes == other.bytes && placement == other.placement && placement_node == other.placement_node;
  }
  bool same_place(const RegionDeclaration& other) const { return id == other.id && offset == other.offset; }
  bool operator==(const RegionDeclaration&) const = default;
};

struct ControlSettings {
  NodeId self{};
  NodeSet members{};
  std::uint64_t region_base = 0;
  std::uint32_t loop_count = 1;
  std::uint64_t beat_ns = 100'000'000;  // at rest
  std::uint64_t ask_ns = 1'000'000;     // while waiting: first repeat, doubles
  std::uint64_t ask_ns_max = 50'000'000;
  std::uint64_t silence_ns = 5'000'000'000;
};

// What is to be sent: a beat, or a declaration, to some nodes.
struct ControlFrame {
  NodeSet to{};
  bool is_region = false;
  Beat beat{};
  RegionDeclaration region{};
};

class ControlFrames {
 public:
  static constexpr std::size_t kCapacity = kRegionsMax + 8;
  void clear() { count_ = 0; }
  ControlFrame* add() {
    return count_ < kCapacity ? &frames_[count_++] : nullptr;
  }  // full: it is said again later
  std::span<const ControlFrame> all() const { return {frames_.data(), count_}; }

 private:
  std::array<ControlFrame, kCapacity> frames_{};
  std::size_t count_ = 0;
};

// One node's side of it. One thread at a time.
class Control {
 public:
  explicit Control(const ControlSettings& settings, Time now);

  void on_beat(NodeId from, const Beat& beat, Time now, ControlFrames& out);
  // The node has begun another life before we joined: what its earlier one said does not count.
  void restarted(NodeId node);
  void on_region(NodeId from, const RegionDeclaration& declaration, Time now, ControlFrames& out);
  // Sends what is due; returns when it wants to be called again at the latest.
  Time tick(Time now, ControlFrames& out);

  // Join: everybody has been heard, and has heard us.
  bool joined() const;
  NodeSet missing() const;
  // A node whose settings differ from ours, and its last beat; kNoNode if none.
  NodeId differing() const { return differing_; }
  const Beat& beat_of(NodeId node) const { return peers_[node.value].beat; }

  std::uint64_t arrive_at_barrier();  // the count to wait for
  bool barrier_passed(std::uint64_t count) const { return behind_barrier(count).empty(); }
  NodeSet behind_barrier(std::uint64_t count) const;

  // Declares a region, or changes this node's declaration of it; the slot, or kRegionsMax if there are too
  // many.
  std::size_t declare(const RegionDeclaration& wanted);
  void set_active(std::size_t slot);
  // It could not be agreed on: asks no more, but still answers, so that the others learn of it.
  void give_up(std::size_t slot) { regions_[slot].given_up = true; }
  // kAgreed: all want the same at the same place. kDiffers: another node wants something else, and that is
  // not what it wanted before an attempt that failed: who tries again waits for the others' next attempt.
  enum class RegionState : std::uint8_t { kWaiting, kAgreed, kAllActive, kDiffers };
  RegionState region_state(std::size_t slot) const;
  // After kAgreed: with id and offset. After kDiffers, or after waiting too long: `differing_region` is the
  // other node's wish.
  const RegionDeclaration& region(std::size_t slot) const { return regions_[slot].mine; }
  const RegionDeclaration& differing_region(std::size_t slot, NodeId& who) const;
  NodeSet missing_in_region(std::size_t slot) const;

  void leave();
  // Everybody has heard our last state, or has left itself, or is silent.
  bool may_go(Time now) const;

  NodeSet silent(Time now) const;
  NodeSet leaving() const;
  void heard(NodeId from, Time now) { peers_[from.value].last_heard = now; }

 private:
  struct Peer {
    Beat beat{};
    bool known = false;
    std::uint64_t echoed = 0;  // our sequence that it has told us it knows
    Time last_heard{};
  };
  struct Slot {
    bool used = false;
    bool wanted = false;  // declared by this node
    bool given_up = false;
    std::uint64_t reserved_bytes = 0;  // lowest node: of addresses, at mine.offset
    RegionDeclaration mine{};
    NodeSet declared{};
    std::array<RegionDeclaration, kNodesMax> theirs{};
  };

  NodeSet others() const { return settings_.members.without(settings_.self); }
  std::size_t slot_of(std::string_view name, bool create);
  void take_place(Slot& slot);
  Beat make_beat() const;
  void send_beat(NodeSet to, bool wants_answer, ControlFrames& out);
  void send_region(const Slot& slot, NodeSet to, bool wants_answer, ControlFrames& out);
  bool region_needs(const Slot& slot) const;
  NodeSet lacking() const;
  void changed();

  ControlSettings settings_;
  std::array<Peer, kNodesMax> peers_{};
  std::array<Slot, kRegionsMax> regions_{};
  std::uint64_t sequence_ = 1;
  std::uint64_t barrier_count_ = 0;
  std::uint64_t next_offset_ = 0;
  std::uint32_t next_id_ = 0;
  bool leaving_ = false;
  NodeId differing_ = kNoNode;
  Time next_beat_{};
  Time next_ask_{};
  std::uint64_t ask_ns_;
};

}  // namespace pagewire::protocol
