// Threads of the service that wait for a page, and meanwhile drive the loop themselves if nobody else does.
// In a SIGBUS handler: nothing here allocates, or takes a lock that the interrupted code could hold.
#include <pthread.h>
#include <rte_pause.h>
#include <sched.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "dataplane/eal.h"
#include "dataplane/futex.h"
#include "dataplane/loop.h"
#include "dataplane/thread_id.h"

namespace pagewire::dataplane {

namespace {

// The passing of time without work, of a thread that waits.
class Idling {
 public:
  Idling(const Patience& patience, std::uint64_t crowded_ns, std::uint64_t now_ns)
      : patience_(patience), crowded_ns_(crowded_ns), since_ns_(now_ns) {}

  enum class Next : std::uint8_t { kSpin, kYield, kGiveUp };
  Next next(std::uint64_t now_ns) const {
    const std::uint64_t idle_ns = now_ns - since_ns_;
    if (idle_ns < patience_.spin_ns) return Next::kSpin;
    return crowded_ || idle_ns >= patience_.yield_ns ? Next::kGiveUp : Next::kYield;
  }
  void worked(std::uint64_t now_ns) { since_ns_ = now_ns; }
  void yielded(std::uint64_t took_ns) { crowded_ = took_ns > crowded_ns_; }

 private:
  Patience patience_;
  std::uint64_t crowded_ns_;
  std::uint64_t since_ns_;
  bool crowded_ = false;
};

// What its thread runs meanwhile is ours, and no turn of it.
class InHandler {
 public:
  explicit InHandler(std::atomic<std::uint32_t>& count) : count_(count) { count_.fetch_add(1); }
  ~InHandler() { count_.fetch_sub(1); }
  InHandler(const InHandler&) = delete;
  InHandler& operator=(const InHandler&) = delete;

 private:
  std::atomic<std::uint32_t>& count_;
};

}  // namespace

bool Loop::wait_inline(RegionState& region, const fault::Fault& fault, fault::Interrupted& interrupted) {
  const PageSlot& slot = region.pages[fault.page];
  const auto access = fault.write ? protocol::Access::kWrite : protocol::Access::kRead;
  const std::uint16_t grants_before = slot.summary().grants;
  // Granted, even if the page is gone again by now: the instruction will tell.
  const auto served = [&] {
    const PageSummary now = slot.summary();
    const bool lets_through = protocol::allows(now.permission, access) && !now.unmapped;
    return (lets_through && !(fault.write && now.write_protected)) || now.grants != grants_before;
  };
  const InHandler in_handler(in_handlers_[fault.thread_id % in_handlers_.size()]);
  bool posted = false;
  std::optional<fault::HandlerStore> store;
  InlineEnd end(phases_, fault.time_ns);
  Idling beside(options_.waiting, options_.crowded_ns, fault.time_ns);
  std::uint64_t spun_beside_ns = 0;
  while (!served()) {
    if (stopping()) return false;
    if (begin()) {
      if (!posted) {
        const LoopIdentity identity(core_id_);
        now_ns_ = now_ns();
        phases_.begin(now_ns_);
        end.drives();
        const PageAt at{.region = &region, .index = fault.page};
        if (fault.write) store = store_of_turn(at, interrupted);
        stores_itself_ = store.has_value();
        posted = on_fault(fault) || board_.post(fault);
        stores_itself_ = false;
        phases_.flushes();
        port_.flush(static_cast<std::uint16_t>(options_.index));
      }
      if (!drive_until(served, end)) continue;
      if (store) store_and_hand_on({.region = &region, .index = fault.page}, *store, interrupted);
      end.leaves(served());
      leave_soon();
      if (posted && !served()) sleep_until_granted(fault.page, interrupted.signals(), served);
      continue;
    }
    if (!posted) {
      end.shares();
      posted = board_.post(fault);
    }
    const std::uint64_t now = now_ns();
    switch (beside.next(now)) {
      case Idling::Next::kSpin:
        rte_pause();
        spun_beside_ns += now_ns() - now;
        break;
      case Idling::Next::kYield: {
        sched_yield();
        const std::uint64_t took_ns = now_ns() - now;
        beside.yielded(took_ns);
        spun_beside_ns += std::min(took_ns, kYieldCallNs);
        break;
      }
      case Idling::Next::kGiveUp:
        if (posted) sleep_until_granted(fault.page, interrupted.signals(), served);
        break;
    }
  }
  end.record(region.phases[options_.index]);
  if (spun_beside_ns > 0) counters_.spun_beside_ns.add_shared(spun_beside_ns);
  return true;
}

// With the drive: until it is served or patience is at its end. False if the drive was lost on the way.
template <typename Served>
bool Loop::drive_until(const Served& served, InlineEnd& end) {
  Idling idling(options_.waiting, options_.crowded_ns, now_ns_);
  while (!served() && !stopping()) {
    if (turn()) {
      idling.worked(now_ns_);
      continue;
    }
    switch (idling.next(now_ns_)) {
      case Idling::Next::kSpin:
        rte_pause();
        break;
      case Idling::Next::kYield: {
        const std::uint64_t before_ns = now_ns_;  // ours no longer after the yield
        end.shares();
        if (!yield_drive()) return false;
        idling.yielded(now_ns() - before_ns);
        break;
      }
      case Idling::Next::kGiveUp:
        return true;
    }
  }
  return true;
}

// Leaves, after a few turns if there is work; if that does not end, the loop's thread takes it up.
void Loop::leave_soon(std::span<const Run> to_wake) {
  for (int turns = 0; turns < kTurnsForOthers; ++turns) {
    if (leave(to_wake)) return;
    turn();
  }
  arm();
  drive_.release();
  wake(to_wake);
  doorbell_.ring();
}

void Loop::wake(std::span<const Run> to_wake) {
  for (const Run& run : to_wake) run.region->memory.wake(run.first, run.count);
}

// The loop is in others' hands, or its bells are armed. Signals of the service are served meanwhile.
void Loop::sleep_until_granted(std::uint32_t page, const sigset_t& interrupted, const auto& served) {
  WaitWord& word = wait_words_[page % kWaitWords];
  word.sleepers.fetch_add(1);
  const std::uint32_t seen = word.sequence.load();
  if (!served() && !stopping()) {
    doorbell_.ring();  // if our fault is still on the board
    sigset_t all;
    pthread_sigmask(SIG_SETMASK, &interrupted, &all);
    futex_wait(word.sequence, seen);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
  }
  word.sleepers.fetch_sub(1);
}

// After a grant was published: who counts himself a sleeper afterwards sees it.
void Loop::wake_sleepers(std::uint32_t page) {
  WaitWord& word = wait_words_[page % kWaitWords];
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (word.sleepers.load(std::memory_order_relaxed) == 0) return;
  word.sequence.fetch_add(1);
  futex_wake(word.sequence, kWakeAll);
}

void Loop::take_fault(const fault::Fault& fault, FaultDrive& drive) {
  if (!drive.driving) drive.driving = begin();
  if (!drive.driving) return push_fault(fault);
  const LoopIdentity identity(core_id_);
  now_ns_ = now_ns();
  phases_.begin(now_ns_);
  drive.worked_ns = now_ns_;
  wakes_later_ = true;
  const bool taken = on_fault(fault);
  wakes_later_ = false;
  if (!taken && !board_.post(fault)) {  // nobody would make room while we have the drive
    leave_and_wake(drive);
    return push_fault(fault);
  }
  phases_.flushes();
  port_.flush(static_cast<std::uint16_t>(options_.index));
}

bool Loop::drive_for_faults(FaultDrive& drive) {
  if (!drive.driving) {
    if (!std::exchange(drive.comes_back, false) || !begin()) return false;
    drive.driving = true;
    drive.worked_ns = now_ns_ = now_ns();
  }
  const std::uint64_t until_ns = now_ns_ + kBetweenReadsNs;
  const auto idle_so_long_ns = [&] { return now_ns_ - drive.worked_ns; };
  wakes_later_ = true;
  do {
    if (turn()) drive.worked_ns = now_ns_;
  } while (to_wake_count_ == 0 && waiting_count_ > 0 && now_ns_ < until_ns &&
           idle_so_long_ns() < options_.waiting.spin_ns && !stopping());
  wakes_later_ = false;
  const std::uint64_t idle_ns = idle_so_long_ns();
  if (waiting_count_ == 0 || to_wake_count_ > 0 || idle_ns >= options_.waiting.yield_ns || stopping()) {
    leave_and_wake(drive);
  } else if (idle_ns >= options_.waiting.spin_ns) {
    drive.driving = yield_drive();
  }
  return drive.driving || drive.comes_back;
}

void Loop::leave_and_wake(FaultDrive& drive) {
  const std::size_t count = std::exchange(to_wake_count_, 0);
  const std::array<Run, kToWakeMax> to_wake = to_wake_;
  drive.comes_back = count > 0 && waiting_count_ > 0;
  drive.driving = false;
  leave_soon(std::span(to_wake).first(count));
}

// Whether who maps these pages now wakes their threads himself.
fault::RegionMemory::Waking Loop::waking(PageAt at, std::uint32_t count) {
  using Waking = fault::RegionMemory::Waking;
  const bool by_thread = at.region->memory.delivery() == fault::Delivery::kThread;
  if (!wakes_later_ || !by_thread || to_wake_count_ == to_wake_.size()) return Waking::kNow;
  to_wake_[to_wake_count_++] = Run{.region = at.region, .first = at.index, .count = count};
  return Waking::kLater;
}

bool Loop::take_over_sleep() {
  std::uint32_t none = 0;
  return sleeper_.compare_exchange_strong(none, this_thread_id());
}

void Loop::give_back_sleep() {
  back_by_ns_.store(protocol::kNever.ns);  // the loop's thread may sleep longer than we would have
  sleeper_.store(0);
  futex_wake(sleeper_, kWakeAll);
}

}  // namespace pagewire::dataplane
