// A thread of the service that is blocked in a call of ours, and drives the loops meanwhile.
#include <poll.h>
#include <rte_pause.h>
#include <sched.h>

#include <algorithm>
#include <csignal>
#include <ctime>

#include "dataplane/engine.h"
#include "dataplane/signals_blocked.h"

namespace pagewire::dataplane {

namespace {

// Without work: spins so long, then yields so long, then sleeps.
constexpr std::uint64_t kSpinNs = 5'000;
constexpr std::uint64_t kYieldNs = 100'000;

std::uint64_t ns_of(ControlPlane::Clock::time_point time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

}  // namespace

// Drives the loops as far as their own threads do not, and sleeps in place of all of them.
class Engine::Waiter {
 public:
  // The caller has taken over the first loop's sleep. One thread at a time has, so the others' are to be had.
  explicit Waiter(std::span<const std::unique_ptr<Loop>> loops) : loops_(loops), driven_(loops.size()) {
    for (const auto& loop : loops_.subspan(1)) loop->take_over_sleep();
  }
  ~Waiter() {
    for (std::size_t i = loops_.size(); i-- > 0;) {
      loops_[i]->give_back_sleep();
      if (driven_[i]) loops_[i]->leave_soon();
    }
  }
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;

  bool stopping() const { return loops_.front()->stopping(); }
  bool turn() {
    bool worked = false;
    for (std::size_t i = 0; i < loops_.size(); ++i) {
      driven_[i] = driven_[i] || loops_[i]->begin();
      if (driven_[i]) worked |= loops_[i]->turn();
    }
    return worked;
  }
  void yield() {
    for (std::size_t i = 0; i < loops_.size(); ++i) {
      if (driven_[i]) loops_[i]->release();
    }
    sched_yield();
    for (std::size_t i = 0; i < loops_.size(); ++i) {
      if (driven_[i]) driven_[i] = loops_[i]->try_again();
    }
  }
  void sleep(std::uint64_t until_ns, const sigset_t& signals);

 private:
  std::span<const std::unique_ptr<Loop>> loops_;
  std::vector<bool> driven_;
};

// Until one of the loops has work, or the time has come. Not at all while a loop's own thread is awake: it
// will rest.
void Engine::Waiter::sleep(std::uint64_t until_ns, const sigset_t& signals) {
  std::vector<pollfd> fds;
  std::vector<bool> left(loops_.size());
  bool all = true;
  for (std::size_t i = 0; i < loops_.size() && all; ++i) {
    std::uint64_t wake_ns = 0;
    left[i] = driven_[i] && loops_[i]->leave_to_sleep(wake_ns);
    all = left[i];
    if (!left[i]) continue;
    until_ns = std::min(until_ns, wake_ns);
    fds.insert(fds.end(), loops_[i]->fds().begin(), loops_[i]->fds().end());
  }
  if (all) {
    const std::uint64_t now = now_ns();
    const std::uint64_t ns = until_ns > now ? std::min<std::uint64_t>(until_ns - now, 1'000'000'000) : 0;
    const timespec timeout{.tv_sec = static_cast<time_t>(ns / 1'000'000'000),
                           .tv_nsec = static_cast<long>(ns % 1'000'000'000)};
    ppoll(fds.data(), fds.size(), &timeout, &signals);
  } else {
    sched_yield();
  }
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    if (left[i]) loops_[i]->come_back();
  }
}

bool Engine::wait_until(ControlPlane::Clock::time_point deadline,
                        const std::function<bool(const protocol::Control&)>& done) {
  // One thread is enough.
  if (options_.loop_kind != LoopKind::kSelf || !shared_.loops.front()->take_over_sleep()) {
    return control_->wait_until(deadline, done);
  }
  const std::uint64_t deadline_ns = ns_of(deadline);
  const SignalsBlocked blocked;
  Waiter waiter(shared_.loops);
  std::uint64_t worked_ns = now_ns();
  while (!waiter.stopping()) {
    const bool worked = waiter.turn();
    if (control_->with_signals_blocked([&](const protocol::Control& control) { return done(control); }))
      return true;
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) return false;
    if (worked) worked_ns = now;
    if (now - worked_ns < kSpinNs) {
      rte_pause();
    } else if (now - worked_ns < kYieldNs) {
      waiter.yield();
    } else {
      waiter.sleep(deadline_ns, blocked.before());
    }
  }
  return false;
}

bool Engine::hold(const Loop::PageRange& range, std::uint64_t until_ns) {
  const SignalsBlocked blocked;
  for (std::size_t i = 0; i < shared_.loops.size(); ++i) {
    if (shared_.loops[i]->hold_pages(range, until_ns)) continue;
    while (i-- > 0) shared_.loops[i]->end_hold(range);
    return false;
  }
  return true;
}

void Engine::end_hold(const Loop::PageRange& range) {
  const SignalsBlocked blocked;
  for (const auto& loop : shared_.loops) loop->end_hold(range);
}

}  // namespace pagewire::dataplane
