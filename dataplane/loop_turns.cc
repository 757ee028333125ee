// The turn of the threads that waited for a page: what was granted is held until they have run, so that nodes
// which write one page in turns all make progress. The protocol knows the bound (View::hold_ns); here it is
// found out that the turn is over sooner, by the processor time of the thread that waited. By whoever drives
// the loop.
#include <algorithm>
#include <ctime>

#include "dataplane/loop.h"

namespace pagewire::dataplane {

namespace {

// Having run for so long since it was first looked at, the thread has executed the instruction that faulted:
// it had only to leave the kernel, or to return from its signal handler. Looking begins when ours is done.
constexpr std::uint64_t kTurnNs = 3'000;

// Nanoseconds of processor time that a thread of this process has used; 0 if it has ended. The kernel's
// encoding of another thread's clock, as pthread_getcpuclockid(3) makes it; that one wants a pthread_t, we
// have a thread id.
std::uint64_t processor_time_ns(std::uint32_t thread_id) {
  constexpr clockid_t kPerThreadScheduler = 6;
  const auto clock = static_cast<clockid_t>(~thread_id << 3U) | kPerThreadScheduler;
  timespec used{};
  if (clock_gettime(clock, &used) != 0) return 0;
  return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(used.tv_nsec);
}

}  // namespace

// A page was mapped for this thread.
void Loop::remember_thread(PageAt at, std::uint32_t thread_id) {
  granted_to_[at.index % granted_to_.size()] = {.at = at, .thread_id = thread_id, .looked_ns = 0};
}

// Somebody asks for a page that is held: from now on it is looked whether the thread has had its turn.
void Loop::watch_turn(PageAt at) {
  if (!protocol::wants_turn(ref(at), protocol::Time{now_ns_})) return;
  const Turn& turn = granted_to_[at.index % granted_to_.size()];
  const bool known = turn.at.region == at.region && turn.at.index == at.index && turn.thread_id != 0;
  const auto watched = std::span(watched_).first(watched_count_);
  const bool is_watched = std::ranges::any_of(
      watched, [&](const Turn& other) { return other.at.region == at.region && other.at.index == at.index; });
  if (!known || is_watched || watched_count_ == watched_.size()) return;  // then the bound ends it
  watched_[watched_count_++] = {.at = at, .thread_id = turn.thread_id, .looked_ns = 0};
  look_at_turn(watched_[watched_count_ - 1]);
}

// True if it is over: also if the thread has ended. A thread that waits in our handler for another page may
// be at an instruction that needs both: then the protocol's bound ends it.
bool Loop::look_at_turn(Turn& turn) const {
  if (in_handlers_[turn.thread_id % in_handlers_.size()].load() != 0) return false;
  const std::uint64_t used_ns = processor_time_ns(turn.thread_id);
  if (turn.looked_ns == 0) turn.looked_ns = used_ns;
  return used_ns == 0 || used_ns >= turn.looked_ns + kTurnNs;
}

// True if something was served.
bool Loop::end_turns() {
  bool served = false;
  for (std::size_t i = watched_count_; i-- > 0;) {
    const Turn turn = watched_[i];
    const bool waits = protocol::wants_turn(ref(turn.at), protocol::Time{now_ns_});
    if (waits && turn.at.region->pages[turn.at.index].holds > 0) continue;
    if (waits && !look_at_turn(watched_[i])) continue;
    watched_[i] = watched_[--watched_count_];
    if (!waits) continue;
    const std::uint16_t round_before = turn.at.region->pages[turn.at.index].entry().round;
    effects_.clear();
    protocol::on_turn_taken(shared_.view, ref(turn.at), protocol::Time{now_ns_}, effects_);
    carry_out(turn.at, round_before, nullptr);
    served = true;
  }
  return served;
}

}  // namespace pagewire::dataplane
