// The packet loop: receive, faults, timers, flush, idle. It owns all transitions of its pages (R1), one queue
// of the port, and one pool of rounds. Whoever has its drive (drive.h) works on it: its own thread, or one
// that waits for a page. Others reach it through a board, rings and a doorbell.
//
// Nothing is lost when the drive is given up: who leaves (leave()) arms the bells, looks for work once more,
// and only then lets go; the loop's thread, or one that waits in its place, sleeps on the bells. Who yields
// the processor with the drive let go, but without leaving, comes back for it.
#pragma once

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/board.h"
#include "dataplane/control_plane.h"
#include "dataplane/counter.h"
#include "dataplane/doorbell.h"
#include "dataplane/drive.h"
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

inline constexpr std::size_t kLoopsMax = 16;

// What all loops of a node share.
struct LoopShared {
  Membership membership;
  protocol::View view;
  std::array<std::atomic<RegionState*>, protocol::kRegionsMax> regions{};
  ControlPlane* control = nullptr;
  std::vector<std::unique_ptr<Loop>> loops;
};

enum class LoopKind : std::uint8_t { kShared, kDedicated, kSelf };

// How whoever drives passes the time without work.
struct Patience {
  std::uint64_t spin_ns = 0;   // spins so long,
  std::uint64_t yield_ns = 0;  // then yields so long (both from the last work on), then gives up
};

struct LoopOptions {
  std::uint32_t index = 0;
  int core = -1;  // -1: floats
  LoopKind kind = LoopKind::kShared;
  std::size_t round_count = 512;                             // pages under way at once
  std::size_t reassembly_count = 64;                         // pages gathered at once
  Patience waiting{.spin_ns = 5'000, .yield_ns = 150'000};  // of a thread that waits for a page
  std::uint64_t crowded_ns = 1'000'000;  // a yield that takes longer: others want this core, so sleep at once
};

struct LoopCounters {  // written by the loop, read by anybody
  std::array<Counter, static_cast<std::size_t>(protocol::Drop::kCount)> dropped;
  std::array<Counter, protocol::kEvents> events;
  Counter no_mbuf;  // frames not sent for want of a buffer
  Counter sleeps;
  Counter driven_by_waiting;  // drives taken by threads that wait
  Counter hand_overs;         // under way now
};

class Loop {
 public:
  Loop(LoopShared& shared, Port& port, const LoopOptions& options);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void start();
  void stop();  // returns when the loop has left the port for good

  // A fault thread drives as well, if nobody else does: what it knows of that, for one loop.
  struct FaultDrive {
    bool driving = false;
    std::uint64_t worked_ns = 0;
  };
  // Takes the fault in, or leaves it to whoever drives; waits while the board is full.
  void take_fault(const fault::Fault& fault, FaultDrive& drive);
  // Drives for some microseconds. False if there is no need any more, or somebody else does.
  bool drive_for_faults(FaultDrive& drive);
  // A thread in its SIGBUS handler, all signals blocked: returns when the fault was served, having driven the
  // loop itself while nobody else did. While it sleeps `interrupted` is its signal mask. False if the loop
  // ends.
  bool wait_inline(RegionState& region, const fault::Fault& fault, const sigset_t& interrupted);

  // A thread of the service that is blocked in a call of ours, all signals blocked, drives in its place:
  // begin() takes the drive if it is to be had, turn() does what there is and says whether there was
  // anything, leave() gives the drive back; false if work had come meanwhile, then it still has it.
  bool begin();
  bool turn();
  bool leave();
  void
  leave_soon();  // does a few turns, and then gives the drive to the loop's thread if there still is work
  // To let others have the drive for a moment; who gave it like this tries to have it back, and if another
  // has it, that one will leave it properly.
  void release() { drive_.release(); }
  bool try_again() { return drive_.try_take(); }
  // Between two drives such a thread may sleep in place of the loop's own thread, which rests meanwhile.
  // False if another does already.
  bool take_over_sleep();  // by its thread id
  void give_back_sleep();
  // As leave(); the caller then sleeps on fds() until `until_ns`, and calls come_back(), which takes the
  // drive.
  bool leave_to_sleep(std::uint64_t& until_ns);
  void come_back();
  std::span<const pollfd> fds() const { return wake_fds_; }
  bool stopping() const { return stop_.load(std::memory_order_relaxed); }
  // Any thread.
  struct Prefetch {
    std::uint32_t region = 0;
    std::uint32_t first_page = 0;
    std::uint32_t page_count = 0;
    protocol::Access access = protocol::Access::kRead;
  };
  // A wish: false if too many wait already.
  bool push_prefetch(const Prefetch& prefetch);
  void wake() { doorbell_.ring(); }
  const LoopCounters& counters() const { return counters_; }
  std::size_t memory_bytes() const;
  bool has_unserved_faults() const { return refused_fault_.load() || !board_.empty(); }

 private:
  static constexpr std::size_t kBurst = 32;
  static constexpr std::size_t kInboxRing = 256;
  static constexpr std::size_t kWakeFdsMax = 8;  // a port has one a queue
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

  // Where threads sleep until a page is granted, by the page's index.
  struct alignas(64) WaitWord {
    std::atomic<std::uint32_t> sequence{0};
    std::atomic<std::uint32_t> sleepers{0};
  };
  static constexpr std::size_t kWaitWords = 64;
  static constexpr int kTurnsForOthers = 4;
  static constexpr std::uint64_t kBetweenReadsNs = 2'000;  // of a userfaultfd, by a fault thread that drives

  void run();
  void push_fault(const fault::Fault& fault);
  bool receive();
  bool faults();
  bool timers();
  bool control();
  void idle();
  bool yield_drive();
  void sleep();
  void sleep_beside_driver();
  void poll_fds(std::uint64_t until_ns);
  void arm();
  void disarm();
  bool nothing_waits();
  std::uint64_t wake_time_ns();

  // threads that wait: loop_wait.cc
  template <typename Served>
  bool drive_until(const Served& served);
  void sleep_until_granted(std::uint32_t page, const sigset_t& interrupted, const auto& served);
  void wake_sleepers(std::uint32_t page);

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
  Doorbell end_bell_;  // rings once, for all who poll
  std::vector<protocol::Round> round_storage_;
  std::vector<protocol::Time> deadline_storage_;
  protocol::Rounds rounds_;
  std::vector<Waiting> waiting_;  // by round
  std::uint32_t waiting_count_ = 0;
  protocol::Effects effects_;
  protocol::ControlFrames control_frames_;
  Reassembly reassembly_;
  Board<fault::Fault> board_;
  std::array<WaitWord, kWaitWords> wait_words_;
  std::vector<std::unique_ptr<fault::SpscRing<rte_mbuf*>>> inbox_;  // by loop that moved the frame here
  Board<Prefetch> prefetches_;
  Prefetch prefetching_;
  std::uint64_t packet_number_ = 0;
  std::uint64_t now_ns_ = 0;
  std::uint64_t idle_since_ns_ = 0;
  std::uint64_t crowded_until_ns_ = 0;
  std::vector<pollfd> wake_fds_;
  Drive drive_;
  Patience patience_;  // of the loop's own thread
  std::uint32_t core_id_ = 0;
  // When the loop's thread, or who sleeps in its place, looks at the loop by itself: 0: it is awake.
  std::atomic<std::uint64_t> back_by_ns_{0};
  std::atomic<std::uint32_t> sleeper_{0};  // the thread that sleeps in place of the loop's; 0: none
  std::atomic<bool> stop_{false};
  std::atomic<bool> refused_fault_{false};  // came after the end
  std::thread thread_;
};

}  // namespace pagewire::dataplane
