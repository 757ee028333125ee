// protocol::Control between threads: the first loop brings frames and time to it, threads of the service ask
// and wait.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>

#include "dataplane/membership.h"
#include "dataplane/signals_blocked.h"
#include "protocol/control.h"

namespace pagewire::dataplane {

class ControlPlane {
 public:
  using Clock = std::chrono::steady_clock;

  // `wake_loop` makes the first loop call tick() soon; any thread may call it.
  ControlPlane(const protocol::ControlSettings& settings, Membership& membership,
               std::function<void()> wake_loop);

  // The first loop.
  void on_beat(protocol::NodeId from, std::uint64_t boot_id, const protocol::Beat& beat,
               protocol::ControlFrames& out);
  void on_region(protocol::NodeId from, const protocol::RegionDeclaration& declaration,
                 protocol::ControlFrames& out);
  // Sends what is due. Returns the time of the next call in ns of the steady clock.
  std::uint64_t tick(std::uint64_t now_ns, protocol::ControlFrames& out);
  bool is_due(std::uint64_t now_ns) const { return now_ns >= due_ns_.load(std::memory_order_relaxed); }
  std::uint64_t due_ns() const { return due_ns_.load(std::memory_order_relaxed); }

  // Threads of the service: looks at, or changes, the state under the lock; a change is told to the others at
  // once. No signal is served under the lock: whoever drives a loop wants it, too, and a handler may wait for
  // a page.
  template <typename F>
  auto with(F&& f) {
    const SignalsBlocked blocked;
    return with_signals_blocked(std::forward<F>(f));
  }
  template <typename F>
  auto with_signals_blocked(F&& f) {  // the caller has done so
    const std::lock_guard lock(mutex_);
    return f(control_);
  }
  template <typename F>
  auto change(F&& f) {
    auto result = with([&](protocol::Control& control) { return f(control); });
    due_ns_.store(0, std::memory_order_relaxed);
    wake_loop_();
    return result;
  }
  // Waits until done(control) or the deadline; false if the deadline came first.
  bool wait_until(Clock::time_point deadline, const std::function<bool(const protocol::Control&)>& done);

 private:
  void tell_change();

  std::mutex mutex_;
  std::atomic<std::uint32_t> changes_{0};
  std::atomic<std::uint32_t> waiting_{0};
  protocol::Control control_;
  Membership& membership_;
  std::function<void()> wake_loop_;
  std::atomic<std::uint64_t> due_ns_{0};
};

// Nanoseconds of the steady clock, which all of the data plane counts in.
std::uint64_t now_ns();

}  // namespace pagewire::dataplane
