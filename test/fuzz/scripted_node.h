// One node of four, played by a script: the real packet loop on a real ring port, with its real control plane
// and region memory, in a time that stands still until the script moves it. The loop asks its port for frames
// once a pass; there the script has its turn, on the loop's thread, so that nothing goes on meanwhile and the
// same script makes the same run. Around each turn it is checked what must hold whatever the frames were.
//
// One script at a time; run() by one thread, all else within a turn.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <semaphore>
#include <span>
#include <vector>

#include "dataplane/control_plane.h"
#include "dataplane/loop.h"
#include "dataplane/region_state.h"
#include "protocol/wire.h"

namespace pagewire::test {

using Bytes = std::vector<std::byte>;

class ScriptedPort;

class ScriptedNode {
 public:
  static constexpr std::uint32_t kNodes = 4;
  static constexpr protocol::NodeId kSelf{1};  // not the lowest: it is told where regions go
  static constexpr std::uint32_t kPages = 6;
  static constexpr std::size_t kRounds = 4;  // fewer than pages, so that there are too few now and then
  static constexpr std::size_t kPrefetchesMax = 32;  // that may be asked for in a life
  static constexpr std::uint32_t kRegion = 5;
  static constexpr std::uint64_t kRegionBase = 0x2000'0000'0000;
  static constexpr std::uint64_t kRetryNsMax = 100'000'000;
  // Counts in frames below it are such as counting can reach; see PROTOCOL.md's word on Byzantine members.
  static constexpr std::uint64_t kReachable = std::uint64_t{1} << 54;

  struct Start {
    bool joined = true;
    bool narrow = false;  // pages travel in fragments
    bool holds = false;   // what arrived stays for 20 us
    protocol::Placement placement = protocol::Placement::kCyclic;
  };

  ScriptedNode();  // once a process: EAL, a ring mesh, a region's memory
  ~ScriptedNode();
  ScriptedNode(const ScriptedNode&) = delete;
  ScriptedNode& operator=(const ScriptedNode&) = delete;

  // A fresh node's life: a turn at each pass of its loop, until one returns false. Then all buffers must be
  // back.
  void run(const Start& start, const std::function<bool()>& turn);

  // --- within a turn ---
  std::uint64_t now_ns() const { return now_ns_; }
  void advance(std::uint64_t ns);
  dataplane::Loop& loop() { return *shared_->loops.front(); }
  dataplane::ControlPlane& control() { return *control_; }
  dataplane::Membership& membership() { return shared_->membership; }
  dataplane::RegionState& region() { return *region_; }
  const protocol::PageEntry& entry(std::uint32_t page) const { return region_->pages[page].entry(); }
  std::uint32_t under_way_count() const;
  void describe() const;  // the pages, to stderr, for whoever is about to say that something does not hold

  // A header as node `from` would write it.
  protocol::Header header(protocol::NodeId from, std::uint8_t type, std::uint32_t page = 0) const;
  // One frame a turn: its payload through node `from`'s ring port. It is checked that the loop drops it for
  // the right reason, or does not.
  void send(protocol::NodeId from, std::span<const std::byte> payload);
  // From header.sender; a message comes without bytes.
  void send(const protocol::Header& header, const protocol::Message& message);
  void send(const protocol::Header& header, const protocol::Beat& beat);
  // The same past the port's own checks: with the Ethernet header, in one segment or two.
  void send_unchecked(std::span<const std::byte> frame, bool chained);
  void fault(std::uint32_t page, bool write);
  void prefetch(std::uint32_t first_page, std::uint32_t page_count, bool write);
  std::size_t prefetch_count() const { return prefetch_count_; }  // in this life
  // The peers leave in their rings what the node sends.
  void stall(bool stalled) { stalled_ = stalled; }

  // The last message that the node sent about a page, and to whom.
  struct Sent {
    bool any = false;
    protocol::NodeSet to{};
    protocol::Message message{};
  };
  const Sent& last_sent(std::uint32_t page) const { return sent_[page]; }
  // A count beyond kReachable has come in: what the node says and accepts from here on may be out of all
  // bounds.
  bool beyond_reach() const { return beyond_reach_; }

 private:
  friend class ScriptedPort;

  struct Expected {
    bool frame = false;
    protocol::Drop drop = protocol::Drop::kNone;
    bool may_be_unexpected = false;  // a later fragment: kNotExpected unless somebody waits for it
    std::optional<std::uint32_t> may_fill = {};  // the page whose bytes travelled
  };

  template <typename Body>
  void encode_and_send(const protocol::Header& header, const Body& body);
  void reset(const Start& start);
  void make_loop(const Start& start);
  void before_receive();  // a turn, with its checks
  rte_mempool* frame_pool() const;
  rte_mbuf* make_frame(std::span<const std::byte> bytes, std::uint16_t room_before);
  Expected expect(std::span<const std::byte> payload) const;
  void note_reach(std::span<const std::byte> payload);
  std::size_t mbufs_in_use() const;

  // scripted_node_checks.cc
  void collect();
  void check_sent(protocol::NodeId to, const rte_mbuf* frame);
  void check_drops();
  void check_entry(std::uint32_t page);
  void check_mapping();
  void check_bytes();
  void check_control();

  std::vector<std::unique_ptr<dataplane::Port>> ports_;  // of all nodes
  std::unique_ptr<ScriptedPort> port_;                   // around that of kSelf
  std::unique_ptr<dataplane::RegionState> region_;
  int page_map_ = -1;  // of this process

  // One life. Not on the heap: the control plane is 400 KB, which to take and give back costs more than the
  // rest.
  std::optional<dataplane::LoopShared> shared_;
  std::optional<dataplane::ControlPlane> control_;
  const std::function<bool()>* turn_ = nullptr;
  std::uint64_t now_ns_ = 0;
  bool ended_ = true;
  std::binary_semaphore end_{0};
  std::size_t prefetch_count_ = 0;
  bool stalled_ = false;
  bool beyond_reach_ = false;
  Expected expected_;
  std::array<std::uint64_t, static_cast<std::size_t>(protocol::Drop::kCount)> drops_{};
  std::uint64_t received_messages_ = 0;
  std::array<Sent, kPages> sent_{};
  std::array<protocol::PageEntry, kPages> before_{};
  Bytes memory_;  // as it was
  std::array<std::uint64_t, kNodes> packets_seen_{};
};

}  // namespace pagewire::test
