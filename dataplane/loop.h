// The packet loop: receive, faults, timers, flush, idle. It owns all transitions of its pages (R1), one queue
// of the port, and one pool of rounds. Other threads reach it through rings and a doorbell.
#pragma once

#include <tbb/concurrent_queue.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/control_plane.h"
#include "dataplane/counter.h"
#include "dataplane/doorbell.h"
#include "dataplane/membership.h"
#include "dataplane/port.h"
#include "dataplane/reassembly.h"
#include "dataplane/region_state.h"
#include "fault/fault_thread.h"
#include "fault/spsc_ring.h"
#include "protocol/core.h"
#include "protocol/wire.h"

namespace pagewire::dataplane {

class Loop;

// What all loops of a node share.
struct LoopShared {
  Membership membership;
  protocol::View view;
  std::array<std::atomic<RegionState*>, protocol::kRegionsMax> regions{};
  ControlPlane* control = nullptr;
  std::vector<std::unique_ptr<Loop>> loops;
};

struct LoopOptions {
  std::uint32_t index = 0;
  int core = -1;                         // -1: floats
  std::size_t round_count = 512;         // pages under way at once
  std::size_t reassembly_count = 64;     // pages gathered at once
  std::uint64_t spin_ns = 5'000;         // without work: spin so long,
  std::uint64_t yield_ns = 50'000;       // then yield so long, then sleep
  std::uint64_t crowded_ns = 1'000'000;  // a yield that takes longer: others want this core, so sleep at once
};

struct LoopCounters {  // written by the loop, read by anybody
  std::array<Counter, static_cast<std::size_t>(protocol::Drop::kCount)> dropped;
  std::array<Counter, protocol::kEvents> events;
  Counter no_mbuf;  // frames not sent for want of a buffer
  Counter sleeps;
  Counter hand_overs;  // under way now
};

class Loop {
 public:
  Loop(LoopShared& shared, Port& port, const LoopOptions& options);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void start();
  void stop();  // returns when the loop has left the port for good

  // The fault thread alone: blocks while the ring is full.
  void push_fault(const fault::Fault& fault);
  // Any thread.
  struct Prefetch {
    std::uint32_t region = 0;
    std::uint32_t first_page = 0;
    std::uint32_t page_count = 0;
    protocol::Access access = protocol::Access::kRead;
  };
  void push_prefetch(const Prefetch& prefetch);
  void wake() { doorbell_.ring(); }
  const LoopCounters& counters() const { return counters_; }
  std::size_t memory_bytes() const;
  bool has_unserved_faults() const { return refused_fault_.load() || !fault_ring_.empty(); }

 private:
  static constexpr std::size_t kBurst = 32;
  static constexpr std::size_t kFaultRing = 1024;
  static constexpr std::size_t kInboxRing = 256;
  static constexpr std::uint64_t kCrowdedForNs = 5'000'000;

  // What is known of a round beside the protocol's own state.
  struct Waiting {
    std::uint64_t since_ns = 0;  // 0: nobody
    FaultKind kind = FaultKind::kReadMiss;
    bool handing_over = false;
  };
  struct PageAt {
    RegionState* region = nullptr;
    std::uint32_t index = 0;
  };

  void run();
  bool receive();
  bool faults();
  bool timers();
  bool control();
  void idle();
  void sleep();
  bool nothing_waits();

  // frames in: loop_receive.cc
  void on_frame(rte_mbuf* frame);
  protocol::Drop admit(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved);
  protocol::Drop admit_control(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved);
  protocol::Drop admit_page(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved);
  bool move_to(std::uint32_t loop, rte_mbuf* frame);

  // pages: loop_pages.cc
  bool on_fault(const fault::Fault& fault);
  bool prefetch_some();
  void on_message(PageAt at, const protocol::Message& message, const std::byte* bytes);
  void on_round_expired(std::uint16_t round);
  void carry_out(PageAt at, std::uint16_t round_before, const std::byte* bytes);
  void carry_out_one(PageAt at, const protocol::Effect& effect, const std::byte* bytes);
  [[noreturn]] static void broken_invariant(PageAt at, const char* what);
  void resumed(PageAt at, std::uint16_t round_before);
  void count_hand_over(std::uint16_t round);
  protocol::PageRef ref(PageAt at);

  // frames out: loop_send.cc
  void send_message(PageAt at, protocol::NodeSet to, const protocol::Message& message);
  void send_control(const protocol::ControlFrames& frames);
  std::size_t send_frame(protocol::NodeSet to, protocol::Header header, std::span<const std::byte> body,
                         std::span<const std::byte> fragment);

  LoopShared& shared_;
  Port& port_;
  LoopOptions options_;
  LoopCounters counters_;
  Doorbell doorbell_;
  std::vector<protocol::Round> round_storage_;
  std::vector<protocol::Time> deadline_storage_;
  protocol::Rounds rounds_;
  std::vector<Waiting> waiting_;  // by round
  protocol::Effects effects_;
  protocol::ControlFrames control_frames_;
  Reassembly reassembly_;
  fault::SpscRing<fault::Fault> fault_ring_;
  std::vector<std::unique_ptr<fault::SpscRing<rte_mbuf*>>> inbox_;  // by loop that moved the frame here
  tbb::concurrent_queue<Prefetch> prefetches_;
  Prefetch prefetching_;
  std::uint64_t packet_number_ = 0;
  std::uint64_t now_ns_ = 0;
  std::uint64_t idle_since_ns_ = 0;
  std::uint64_t crowded_until_ns_ = 0;
  std::vector<pollfd> wake_fds_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> refused_fault_{false};  // came after the end
  std::thread thread_;
};

}  // namespace pagewire::dataplane
