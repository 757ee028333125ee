#include "dataplane/control_plane.h"

#include <utility>

#include "dataplane/futex.h"

namespace pagewire::dataplane {

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(ControlPlane::Clock::now().time_since_epoch())
          .count());
}

ControlPlane::ControlPlane(const protocol::ControlSettings& settings, Membership& membership,
                           std::function<void()> wake_loop)
    : control_(settings, protocol::Time{now_ns()}),
      membership_(membership),
      wake_loop_(std::move(wake_loop)) {}

void ControlPlane::on_beat(protocol::NodeId from, std::uint64_t boot_id, const protocol::Beat& beat,
                           protocol::ControlFrames& out) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t known = membership_.boot_ids[from.value].exchange(boot_id, std::memory_order_relaxed);
  if (known != 0 && known != boot_id) control_.restarted(from);
  control_.on_beat(from, beat, protocol::Time{now_ns()}, out);
  due_ns_.store(0, std::memory_order_relaxed);
  tell_change();
}

void ControlPlane::on_region(protocol::NodeId from, const protocol::RegionDeclaration& declaration,
                             protocol::ControlFrames& out) {
  const std::lock_guard lock(mutex_);
  control_.on_region(from, declaration, protocol::Time{now_ns()}, out);
  due_ns_.store(0, std::memory_order_relaxed);
  tell_change();
}

std::uint64_t ControlPlane::tick(std::uint64_t now, protocol::ControlFrames& out) {
  const std::lock_guard lock(mutex_);
  membership_.members().without(membership_.self).for_each([&](protocol::NodeId node) {
    const std::uint64_t heard = membership_.last_heard_ns[node.value].load(std::memory_order_relaxed);
    if (heard != 0) control_.heard(node, protocol::Time{heard});
  });
  const std::uint64_t due = control_.tick(protocol::Time{now}, out).ns;
  due_ns_.store(due, std::memory_order_relaxed);
  tell_change();
  return due;
}

// Who counts himself as waiting and then finds the number of changes as it was is woken by the next one.
void ControlPlane::tell_change() {
  changes_.fetch_add(1);
  if (waiting_.load() != 0) futex_wake(changes_, kWakeAll);
}

bool ControlPlane::wait_until(Clock::time_point deadline,
                              const std::function<bool(const protocol::Control&)>& done) {
  constexpr std::int64_t kLongNs = 1'000'000'000;
  waiting_.fetch_add(1);
  bool is_done = false;
  for (;;) {
    const std::uint32_t seen = changes_.load();
    is_done = with([&](const protocol::Control& control) { return done(control); });
    const auto now = Clock::now();
    if (is_done || now >= deadline) break;
    const std::int64_t left_ns =
        deadline - now > std::chrono::nanoseconds(kLongNs)
            ? kLongNs
            : std::chrono::duration_cast<std::chrono::nanoseconds>(deadline - now).count();
    futex_wait_for(changes_, seen, static_cast<std::uint64_t>(left_ns));
  }
  waiting_.fetch_sub(1);
  return is_done;
}

}  // namespace pagewire::dataplane
