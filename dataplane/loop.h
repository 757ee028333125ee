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
#include <optional>
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
#include "dataplane/phases.h"
#include "dataplane/port.h"
#include "dataplane/reassembly.h"
#include "dataplane/region_state.h"
#include "fault/fault_thread.h"
#include "fault/interrupted.h"
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
  bool scan_ahead = true;  // ask ahead of scans
  bool hand_on = true;     // with the one store of a turn
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
  bool real_time = true;  // kSelf: the loop's thread goes before others, if the process may ask for that
  std::size_t round_count = 512;                            // pages under way at once
  std::size_t reassembly_count = 64;                        // pages gathered at once
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
  Counter handed_on;          // pages, with the store that their thread waited for
  Counter spun_ns;            // turns that found nothing; see Stats::spun_ns
  Counter spun_beside_ns;     // of threads that wait while another drives
};

class Loop {
 public:
  Loop(LoopShared& shared, Port& port, const LoopOptions& options);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void start();
  void stop();  // returns when the loop has left the port for good

  struct Run {  // of pages
    RegionState* region = nullptr;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    bool zap = false;  // a withdrawal: else protect
  };
  // A fault thread drives as well, if nobody else does: what it knows of that, for one loop.
  struct FaultDrive {
    bool driving = false;
    bool comes_back = false;  // other threads still wait
    std::uint64_t worked_ns = 0;
  };
  // Takes the fault in, or leaves it to whoever drives; waits while the board is full.
  void take_fault(const fault::Fault& fault, FaultDrive& drive);
  // Drives for some microseconds. False if there is no need any more, or somebody else does.
  bool drive_for_faults(FaultDrive& drive);
  // With that drive: pages are mapped whose threads have not been woken.
  bool has_to_wake() const { return to_wake_count_ > 0; }
  // A thread in its SIGBUS handler, all signals blocked: returns when the fault was served, having driven the
  // loop itself while nobody else did. While it sleeps its signal mask is that of the interrupted code. False
  // if the loop ends.
  bool wait_inline(RegionState& region, const fault::Fault& fault, fault::Interrupted& interrupted);

  // A thread of the service that is blocked in a call of ours, all signals blocked, drives in its place:
  // begin() takes the drive if it is to be had, turn() does what there is and says whether there was
  // anything, leave() gives the drive back; false if work had come meanwhile, then it still has it.
  bool begin();
  bool begin_for_sure();  // sleeps until it has the drive; false if the loop ends
  bool turn();
  // With the drive: the last turn had to do with pages. If not (beats), more is not to be expected soon.
  bool worked_on_pages() const { return worked_on_pages_; }
  bool leave() { return leave({}); }
  // Does a few turns, and then gives the drive to the loop's thread if there still is work.
  void leave_soon() { leave_soon({}); }
  // To let others have the drive for a moment; who gave it like this tries to have it back, and if another
  // has it, that one will leave it properly.
  void release() { drive_.release(); }
  bool try_again() { return drive_.try_take(); }
  // Keeps pages here, those of them that are this loop's: all there and held at once, at the latest until
  // then. False if that could not be had in time: then none is held.
  struct PageRange {
    RegionState* region = nullptr;
    std::uint32_t first_page = 0;
    std::uint32_t page_count = 0;
    protocol::Access access = protocol::Access::kRead;
  };
  bool hold_pages(const PageRange& range, std::uint64_t until_ns);
  void end_hold(const PageRange& range);
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
    std::int32_t stride = 1;
    bool by_scan = false;  // not the service's own wish
  };
  // A wish: false if too many wait already.
  bool push_prefetch(const Prefetch& prefetch);
  void wake() { doorbell_.ring(); }
  // From now on the loop looks at whatever comes in at once: the node wants to go, and may when all have
  // acknowledged.
  void set_leaving() {
    leaving_.store(true);
    doorbell_.ring();
  }
  const LoopCounters& counters() const { return counters_; }
  std::size_t memory_bytes() const;
  bool has_unserved_faults() const { return refused_fault_.load() || !board_.empty(); }

 private:
  static constexpr std::size_t kBurst = 32;
  static constexpr int kBurstsMax = 16;  // before deadlines are looked at
  static constexpr std::size_t kInboxRing = 256;
  static constexpr std::size_t kWishes = 8;
  static constexpr std::uint32_t kAheadMax = 128;       // pages asked for ahead of need and not here yet
  static constexpr std::uint32_t kMapRunMax = 32;       // pages mapped at the first touch of one of them
  static constexpr std::uint64_t kGiveWayNs = 100'000;  // for who waits for the drive to wake up
  static constexpr std::size_t kWakeFdsMax = 8;         // a port has one a queue
  static constexpr std::uint64_t kCrowdedForNs = 5'000'000;
  static constexpr std::uint64_t kShortSleepsNs = 10'000'000;

  // What is known of a round beside the protocol's own state.
  struct Waiting {
    std::uint64_t since_ns = 0;  // 0: nobody
    FaultKind kind = FaultKind::kReadMiss;
    std::uint32_t thread_id = 0;  // of the first who waits, if it is known
    bool handing_over = false;
  };
  struct PageAt {
    RegionState* region = nullptr;
    std::uint32_t index = 0;
    bool operator==(const PageAt&) const = default;
  };

  // Where threads sleep until a page is granted, by the page's index.
  struct alignas(64) WaitWord {
    std::atomic<std::uint32_t> sequence{0};
    std::atomic<std::uint32_t> sleepers{0};
  };
  static constexpr std::size_t kWaitWords = 64;
  static constexpr int kTurnsForOthers = 4;
  static constexpr std::uint64_t kBetweenReadsNs = 10'000;  // of a userfaultfd, by a fault thread that drives
  static constexpr std::size_t kToWakeMax = 16;
  static constexpr std::uint64_t kYieldCallNs = 1'000;  // a yield that lasts longer: others had the processor
  static constexpr std::uint64_t kExpectNs = 60'000;    // for a node that will ask for a page in its turn
  static constexpr std::uint64_t kRingsLaterNs = 60'000;  // for a node that will look by itself before
  static constexpr std::uint8_t kTurnsKeptMax = 128;

  void run();
  void push_fault(const fault::Fault& fault);
  bool receive();
  bool faults();
  bool timers();
  bool control();
  void idle();
  void give_way();
  bool yield_drive();
  void sleep();
  void sleep_beside_driver();
  void follow_service();
  void poll_fds(std::uint64_t until_ns);
  void arm();
  void disarm();
  void drain();
  bool nothing_waits();
  bool leave(std::span<const Run> to_wake);
  void leave_soon(std::span<const Run> to_wake);
  static void wake(std::span<const Run> to_wake);
  std::uint64_t wake_time_ns();

  // threads that wait: loop_wait.cc
  template <typename Served>
  bool drive_until(const Served& served, InlineEnd& end);
  void sleep_until_granted(std::uint32_t page, const sigset_t& interrupted, const auto& served);
  void wake_sleepers(std::uint32_t page);
  fault::RegionMemory::Waking waking(PageAt at, std::uint32_t count = 1);
  void leave_and_wake(FaultDrive& drive);

  // frames in: loop_receive.cc
  void on_frame(rte_mbuf* frame);
  protocol::Drop admit(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved);
  protocol::Drop admit_control(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved);
  protocol::Drop admit_page(const protocol::Parsed& parsed, rte_mbuf* frame, bool& moved);
  protocol::Drop admit_requests(const protocol::Parsed& parsed, RegionState& region);
  void handle(PageAt at, const protocol::Message& message, const std::byte* bytes);
  bool move_to(std::uint32_t loop, rte_mbuf* frame);

  // pages: loop_pages.cc
  bool on_fault(const fault::Fault& fault);

  // ahead of need, and several at once: loop_ahead.cc
  bool prefetch_some();
  bool has_room_ahead() const;
  bool is_ours(std::uint32_t page) const;
  void grant_wish(Prefetch& wish, std::size_t& budget);
  bool ask_ahead(PageAt at, const Prefetch& wish);
  void look_ahead(PageAt at);
  bool came_ahead(PageAt at, std::uint16_t round_before);
  void came_in_vain(PageAt at);
  void has_arrived(PageAt at);
  void map_arrived();
  std::uint32_t map_around(PageAt at, std::uint32_t count_max);
  void withdraw_runs(std::span<rte_mbuf* const> frames);
  template <typename Each>
  void each_withdrawal(const rte_mbuf* frame, Each&& each) const;
  Run withdrawal_of(RegionState* region, std::uint32_t page, protocol::MessageType type) const;
  void withdraw(const Run& run);
  void restore_runs();

  // the turn of threads that waited: loop_turns.cc
  struct Turn {
    PageAt at;
    std::uint32_t thread_id = 0;
    std::uint64_t looked_ns = 0;  // its processor time when it was first looked at; 0: not yet
  };
  bool hold_page(PageAt at, protocol::Access access, std::uint64_t until_ns);
  void remember_thread(PageAt at, std::uint32_t thread_id);
  void watch_turn(PageAt at);
  bool look_at_turn(Turn& turn) const;
  void end_turn(PageAt at);
  std::optional<fault::HandlerStore> store_of_turn(PageAt at, const fault::Interrupted& interrupted);
  void store_and_hand_on(PageAt at, const fault::HandlerStore& store, fault::Interrupted& interrupted);
  static void keep_turns(PageSlot& slot);
  static void judge_handing_on(PageSlot& slot, protocol::Version bytes_before);
  bool end_turns();

  void on_message(PageAt at, const protocol::Message& message, const std::byte* bytes);
  void on_round_expired(std::uint16_t round);
  void carry_out(PageAt at, std::uint16_t round_before, const std::byte* bytes);
  bool carry_out_one(PageAt at, const protocol::Effect& effect, std::uint16_t round_before,
                     const std::byte* bytes);
  [[noreturn]] static void broken_invariant(PageAt at, const char* what);
  void resumed(PageAt at, std::uint16_t round_before, std::uint64_t mapped_ns);
  void count_hand_over(std::uint16_t round);
  protocol::PageRef ref(PageAt at);

  // frames out: loop_send.cc
  void send_message(PageAt at, protocol::NodeSet to, const protocol::Message& message);
  void send_control(const protocol::ControlFrames& frames);
  bool put_together(PageAt at, protocol::NodeSet to, const protocol::Message& message);
  void send_together();
  enum class Ring : std::uint8_t { kNow, kNotNow };
  std::size_t send_frame(protocol::NodeSet to, protocol::Header header, std::span<const std::byte> body,
                         std::span<const std::byte> fragment, std::uint64_t asked_ns = 0,
                         Ring ring = Ring::kNow);
  bool rings_later(PageAt at, protocol::NodeSet to, protocol::MessageType type);
  void ring_now();

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
  FaultPhases phases_;
  std::uint32_t waiting_count_ = 0;
  // A fault thread that drives wakes others last, without the drive: they may take its processor at once, and
  // keep it.
  bool wakes_later_ = false;
  std::array<Run, kToWakeMax> to_wake_;
  std::size_t to_wake_count_ = 0;
  bool serving_thread_ = false;  // what is carried out now is for a thread that waits
  bool stores_itself_ = false;   // likewise, and it needs no mapping for that
  struct {                       // the one request that was sent quietly; at_ns 0: there is none
    PageAt page;
    protocol::NodeSet to;
    std::uint64_t at_ns = 0;
  } rings_later_;
  protocol::Effects effects_;
  protocol::ControlFrames control_frames_;
  Reassembly reassembly_;
  Board<fault::Fault> board_;
  std::array<WaitWord, kWaitWords> wait_words_;
  std::vector<std::unique_ptr<fault::SpscRing<rte_mbuf*>>> inbox_;  // by loop that moved the frame here
  Board<Prefetch> prefetches_;
  std::array<Prefetch, kWishes> wishes_;  // being worked on, the first first
  std::size_t wish_count_ = 0;
  std::uint32_t ahead_in_flight_ = 0;
  Run arrived_;
  struct {  // requests that wait to share a frame; only while prefetch_some() runs
    bool open = false;
    RegionState* region = nullptr;
    protocol::NodeSet to;
    std::size_t count = 0;
    std::array<protocol::Request, protocol::kRequestsMax> requests;
  } together_;
  std::array<Turn, 64> granted_to_;                           // by the page's index
  std::array<Turn, 16> watched_;                              // pages that others wait for
  std::array<std::atomic<std::uint32_t>, 64> in_handlers_{};  // threads in wait_inline(), by thread id
  std::size_t watched_count_ = 0;
  std::array<Run, kBurst / 2> early_runs_;  // of this burst
  std::size_t early_run_count_ = 0;
  std::uint64_t packet_number_ = 0;
  std::uint64_t now_ns_ = 0;
  bool worked_on_pages_ = false;  // in this turn
  bool burst_was_full_ = false;
  bool turn_was_idle_ = false;  // and the next one follows it
  std::uint64_t idle_since_ns_ = 0;
  std::uint64_t crowded_until_ns_ = 0;
  std::vector<pollfd> wake_fds_;
  Drive drive_;
  Patience patience_;  // of the loop's own thread
  std::uint32_t core_id_ = 0;
  std::atomic<int> service_core_{-1};  // where a thread last drove in place of ours
  int own_core_ = -1;
  // When the loop's thread, or who sleeps in its place, looks at the loop by itself: 0: it is awake.
  std::atomic<std::uint64_t> back_by_ns_{0};
  std::atomic<std::uint64_t> short_sleeps_until_ns_{0};
  std::atomic<std::uint32_t> sleeper_{0};  // the thread that sleeps in place of the loop's; 0: none
  std::atomic<bool> stop_{false};
  std::atomic<bool> leaving_{false};
  std::atomic<bool> refused_fault_{false};  // came after the end
  std::thread thread_;
};

}  // namespace pagewire::dataplane
