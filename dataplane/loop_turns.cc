// The turn of the threads that waited for a page: what was granted is held until they have run, so that nodes
// which write one page in turns all make progress. The protocol knows the bound (View::hold_ns); here it is
// found out that the turn is over sooner, by the processor time of the thread that waited. By whoever drives
// the loop.
#include <algorithm>
#include <ctime>
#include <optional>
#include <utility>

#include "dataplane/eal.h"
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
    end_turn(turn.at);
    served = true;
  }
  return served;
}

// A migratory page is loaded, stored to once, and wanted by the next node: a turn, a lock that is given on. A
// thread that stands at that store carries it out in its handler (fault/handler_store.h), and the page goes
// on from there: the next node need not interrupt this one for it, which is most of what a hand-over costs on
// a virtual machine. Whether one store was all is seen when the page comes back: if nobody has stored to it
// meanwhile, or this node stores again, turns are kept for a while.
//
// With the drive, before the fault is taken in. Only where no other node has to be asked for the store.
std::optional<fault::HandlerStore> Loop::store_of_turn(PageAt at, const fault::Interrupted& interrupted) {
  PageSlot& slot = at.region->pages[at.index];
  const protocol::PageEntry& entry = slot.entry();
  const bool can = shared_.hand_on && entry.sharing.is_migratory() && entry.owner &&
                   entry.permission == protocol::Permission::kRead && entry.copyset.empty() &&
                   !slot.unmapped && slot.holds == 0;
  if (!can) return {};
  if (slot.turns_kept > 0) {
    --slot.turns_kept;
    return {};
  }
  return interrupted.store();
}

// The page is Write now, but write-protected still. If nobody comes for it, the thread goes on with it as
// ever.
void Loop::store_and_hand_on(PageAt at, const fault::HandlerStore& store, fault::Interrupted& interrupted) {
  PageSlot& slot = at.region->pages[at.index];
  const auto is_here = [&] { return slot.entry().permission == protocol::Permission::kWrite; };
  if (!is_here()) return;
  interrupted.carry_out(store,
                        at.region->memory.service_view() + std::size_t{at.index} * protocol::kPageBytes);
  end_turn(at);
  const std::uint64_t until_ns = now_ns() + kExpectNs;
  do {
    turn();
  } while (is_here() && slot.protected_early && now_ns_ < until_ns && !drive_.wanted() && !stopping());
  if (slot.entry().permission == protocol::Permission::kInvalid) {
    slot.handed_on = slot.keep_next == 0 ? HandedOn::kQuietly : HandedOn::kYes;
    counters_.handed_on.add();
    return;
  }
  const bool was_protected = std::exchange(slot.protected_early, false);
  if (!was_protected || now_ns_ >= until_ns) keep_turns(slot);  // else somebody wanted the drive
  if (!was_protected) return;                                   // a thread of ours has come for it
  at.region->memory.unprotect(at.index);
  slot.publish();
}

void Loop::end_turn(PageAt at) {
  const LoopIdentity identity(core_id_);
  const std::uint16_t round_before = at.region->pages[at.index].entry().round;
  effects_.clear();
  protocol::on_turn_taken(shared_.view, ref(at), protocol::Time{now_ns_}, effects_);
  carry_out(at, round_before, nullptr);
}

// Handing on was too soon, or nobody wanted the page: once may be chance; else it is tried again later, and
// later each time.
void Loop::keep_turns(PageSlot& slot) {
  slot.turns_kept = slot.keep_next;
  slot.keep_next = static_cast<std::uint8_t>(std::clamp<int>(slot.keep_next * 2, 1, kTurnsKeptMax));
}

// The page is here again: it was right to hand it on if the other node has stored to it.
void Loop::judge_handing_on(PageSlot& slot, protocol::Version bytes_before) {
  if (slot.entry().permission == protocol::Permission::kInvalid) return;
  slot.handed_on = HandedOn::kNo;
  if (slot.entry().data_version == bytes_before) return keep_turns(slot);
  slot.keep_next = 0;
}

}  // namespace pagewire::dataplane
