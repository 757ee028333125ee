#include "dataplane/interrupt_park.h"

#include <rte_alarm.h>
#include <time.h>

#include <atomic>
#include <cstring>
#include <mutex>

#include "fault/setup_error.h"

namespace pagewire::dataplane {
namespace {

using fault::SetupError;

enum class State : std::uint32_t { kFree, kParkRequested, kParked };

// Constant-initialised and trivially destroyed, for the interrupt thread may still stand here when the
// process exits.
constinit std::mutex mutex;  // guards the counts and every change of state but the thread's own
constinit std::uint32_t linking_count = 0;
constinit std::uint32_t parker_count = 0;  // parked, or waiting to be
constinit std::atomic<State> state{State::kFree};

void nap_for_thread() {  // park() and run() wait for a thread that can't be told whom to wake; this is never
                         // on the data
                         // path
  constexpr timespec kNap{.tv_sec = 0, .tv_nsec = 100'000};
  nanosleep(&kNap, nullptr);
}

// On the interrupt thread.
void stand_still(void*) {
  State expected = State::kParkRequested;
  if (!state.compare_exchange_strong(expected, State::kParked)) return;  // everybody left before we came
  while (state.load() == State::kParked) state.wait(State::kParked);
}

void request_park() {  // mutex held
  state.store(State::kParkRequested);
  if (const int error = rte_eal_alarm_set(1, stand_still, nullptr); error != 0) {
    state.store(State::kFree);
    throw SetupError("parking DPDK's interrupt thread", std::strerror(-error), "Free memory and try again");
  }
}

struct Work {
  const std::function<void()>* function;
  std::atomic<bool> done{false};
};

void run_work(void* argument) {
  auto* const work = static_cast<Work*>(argument);
  (*work->function)();
  work->done.store(true);
  work->done.notify_one();
}

}  // namespace

std::uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

InterruptPark::InterruptPark() {
  const std::lock_guard lock(mutex);
  if (state.load() != State::kFree) {
    throw SetupError(
        "linking a memif port", "another memif port of this process is in use",
        "Open all memif ports of a process at the same time, from a thread each, or one after the other "
        "was closed");
  }
  ++linking_count;
}

InterruptPark::~InterruptPark() {
  leave();
  const std::lock_guard lock(mutex);
  --linking_count;
}

bool InterruptPark::park(std::uint64_t deadline_ns) {
  {
    const std::lock_guard lock(mutex);
    --linking_count;
    ++parker_count;
    parked_ = true;
  }
  while (true) {
    {
      const std::lock_guard lock(mutex);
      if (state.load() == State::kParked) return true;
      if (state.load() == State::kFree && linking_count == 0) request_park();
    }
    if (monotonic_ns() >= deadline_ns) break;
    nap_for_thread();
  }
  leave();
  return false;
}

void InterruptPark::leave() {
  if (!parked_) return;
  const std::lock_guard lock(mutex);
  ++linking_count;
  parked_ = false;
  if (--parker_count == 0) {
    state.store(State::kFree);
    state.notify_all();
  }
}

void InterruptPark::run(const std::function<void()>& work) {
  {
    std::unique_lock lock(mutex);
    while (state.load() == State::kParkRequested) {
      lock.unlock();
      nap_for_thread();
      lock.lock();
    }
    if (state.load() == State::kParked) {  // nobody can set it free while we hold the mutex
      work();
      return;
    }
  }
  Work item{.function = &work};
  if (rte_eal_alarm_set(1, run_work, &item) !=
      0) {  // no memory for 40 bytes: better in a race than not at all
    work();
    return;
  }
  item.done.wait(false);
}

}  // namespace pagewire::dataplane
