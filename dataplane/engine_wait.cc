// A thread of the service that is blocked in a call of ours, and drives the loops meanwhile.
#include <poll.h>
#include <rte_pause.h>
#include <sched.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <optional>

#include "dataplane/engine.h"
#include "dataplane/signals_blocked.h"
#include "fault/descriptor.h"

namespace pagewire::dataplane {

namespace {

// Without work: spins so long, then yields so long, then sleeps.
constexpr std::uint64_t kSpinNs = 5'000;
constexpr std::uint64_t kYieldNs = 100'000;
constexpr std::uint64_t kSignalsNs = 1'000'000;  // between two looks for signals while there is work

std::uint64_t ns_of(ControlPlane::Clock::time_point time) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

}  // namespace

// The signals that the calling thread would be served if they were not blocked now: readable when one is
// there. signalfd(2).
class Engine::SignalsWaiting {
 public:
  explicit SignalsWaiting(const sigset_t& mask) {
    sigfillset(&served_);
    for (int signal = 1; signal < NSIG; ++signal) {
      if (sigismember(&mask, signal) == 1) sigdelset(&served_, signal);
    }
  }
  // A descriptor to poll, never to read; -1: there is none to be had.
  int fd() {
    if (!fd_) fd_ = fault::Descriptor(::signalfd(-1, &served_, SFD_CLOEXEC | SFD_NONBLOCK));
    return fd_.get();
  }
  bool any() const {
    sigset_t pending;
    sigset_t both;
    sigpending(&pending);
    sigandset(&both, &pending, &served_);
    return sigisemptyset(&both) == 0;
  }

 private:
  sigset_t served_{};
  fault::Descriptor fd_;
};

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
      if (driven_[i]) worked |= loops_[i]->turn() && loops_[i]->worked_on_pages();
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
  // False if a signal waits: its handler must find the loops in their own threads' hands, for it may touch a
  // page and so need them.
  bool sleep(std::uint64_t until_ns, SignalsWaiting& signals);

 private:
  std::span<const std::unique_ptr<Loop>> loops_;
  std::vector<bool> driven_;
};

// Until one of the loops has work, or the time has come. Not at all while a loop's own thread is awake: it
// will rest.
bool Engine::Waiter::sleep(std::uint64_t until_ns, SignalsWaiting& signals) {
  if (signals.fd() < 0) return false;
  std::vector<pollfd> fds{pollfd{.fd = signals.fd(), .events = POLLIN, .revents = 0}};
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
    ppoll(fds.data(), fds.size(), &timeout, nullptr);
  } else {
    sched_yield();
  }
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    if (left[i]) loops_[i]->come_back();
  }
  return fds.front().revents == 0;
}

// One thread is enough: the others, and all if there is no descriptor for signals, wait for the control
// plane.
bool Engine::wait_until(ControlPlane::Clock::time_point deadline,
                        const std::function<bool(const protocol::Control&)>& done) {
  if (options_.loop_kind != LoopKind::kSelf) return control_->wait_until(deadline, done);
  for (;;) {
    const SignalsBlocked blocked;  // served when it ends, that is between two rounds
    SignalsWaiting signals(blocked.before());
    if (signals.fd() < 0 || !shared_.loops.front()->take_over_sleep()) break;
    const std::optional<bool> is_done = wait_in_place(ns_of(deadline), done, signals);
    if (is_done) return *is_done;
  }
  return control_->wait_until(deadline, done);
}

// Having taken over the first loop's sleep. Nothing if a signal waits.
std::optional<bool> Engine::wait_in_place(std::uint64_t deadline_ns,
                                          const std::function<bool(const protocol::Control&)>& done,
                                          SignalsWaiting& signals) {
  Waiter waiter(shared_.loops);
  std::uint64_t worked_ns = now_ns();
  std::uint64_t looked_ns = worked_ns;
  while (!waiter.stopping()) {
    const bool worked = waiter.turn();
    if (control_->with_signals_blocked([&](const protocol::Control& control) { return done(control); })) {
      return true;
    }
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns) return false;
    if (now - looked_ns >= kSignalsNs) {
      if (signals.any()) return std::nullopt;
      looked_ns = now;
    }
    if (worked) worked_ns = now;
    if (now - worked_ns < kSpinNs) {
      rte_pause();
    } else if (now - worked_ns < kYieldNs) {
      waiter.yield();
    } else if (!waiter.sleep(deadline_ns, signals)) {
      return std::nullopt;
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
