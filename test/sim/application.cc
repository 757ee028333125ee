// What the nodes' threads do: load and store, and wait where the mapping does not let them.
#include <fmt/format.h>

#include <algorithm>

#include "test/sim/simulator.h"

namespace pagewire::sim {

using protocol::Access;

void Simulator::choose_access(Thread& thread) {
  thread.access = random_.chance(setting_.store_share) ? Access::kWrite : Access::kRead;
  std::uint64_t page = random_.below(setting_.pages);
  switch (setting_.mix) {
    case Mix::kUniform:
    case Mix::kReadMostly:
      break;
    case Mix::kHot:
      if (!random_.chance(kAlways / 8)) page = random_.below((setting_.pages + 7) / 8);
      break;
    case Mix::kPingPong:
      if (!random_.chance(kAlways / 8)) page = 0;
      break;
    case Mix::kOwnPage:
      if (!random_.chance(kAlways / 4)) page = thread.node % setting_.pages;
      break;
  }
  thread.page = static_cast<std::uint32_t>(page);
}

void Simulator::thread_goes(std::uint32_t number) {
  Thread& thread = threads_[number];
  if (thread.state == Thread::State::kResting) {
    if (healing_ && !thread.healing) return;
    choose_access(thread);
    if (!healing_ && random_.chance(setting_.prefetch_share)) {
      report_.counters.add(Counter::kPrefetches);
      raise_fault(thread);
      return queue_.push(now_ + random_.below(setting_.think_ns), Event::Kind::kThread, thread.node, number);
    }
    ++active_threads_;
    thread.since = now_;
  }
  thread.state = Thread::State::kTrying;
  if (protocol::allows(slot(thread.node, thread.page).memory.mapping, thread.access)) {
    use_page(thread, number);
  } else {
    thread.state = Thread::State::kWaiting;
    report_.counters.add(thread.access == Access::kWrite ? Counter::kWriteFaults : Counter::kReadFaults);
    raise_fault(thread);
  }
  tell_turn(thread.node, thread.page);
}

// Into the node's ring, from which its loop takes it a little later.
void Simulator::raise_fault(const Thread& thread) {
  ++faults_in_rings_;
  queue_.push(now_ + random_.below(setting_.ring_ns), Event::Kind::kFault, thread.node,
              thread.page * 2 + (thread.access == Access::kWrite ? 1 : 0));
  if (healing_ || !random_.chance(setting_.false_turns)) return;
  report_.counters.add(Counter::kFalseTurns);
  queue_.push(now_ + random_.below(setting_.ring_ns + 4 * setting_.delay_ns), Event::Kind::kTurn, thread.node,
              random_.coin() ? thread.page : static_cast<std::uint32_t>(random_.below(setting_.pages)));
}

// What a loop does with a page on which others wait: once nobody is left there that was woken and has not
// run, it says so. A thread that wants more than was granted has faulted again, and does not count.
void Simulator::tell_turn(std::uint8_t node, std::uint32_t page) {
  if (!setting_.sees_turns || !protocol::wants_turn(ref(node, page), now())) return;
  const auto is_to_run = [&](const Thread& thread) {
    return thread.state == Thread::State::kTrying && thread.node == node && thread.page == page;
  };
  if (std::any_of(threads_.begin(), threads_.end(), is_to_run)) return;
  queue_.push(now_ + random_.below(setting_.turn_ns), Event::Kind::kTurn, node, page);
}

// The processor lets it through.
void Simulator::use_page(Thread& thread, std::uint32_t number) {
  const std::uint32_t page = thread.page;
  Slot& at = slot(thread.node, page);
  count_step(Event::Kind::kThread, thread.node, page, number);
  if (at.value != stored_[page])
    return fail("I2: an access found what is not the last store", thread.node, page);
  const bool store = thread.access == Access::kWrite;
  report_.counters.add(store ? Counter::kStores : Counter::kLoads);
  if (store) {
    at.value = ++last_value_;
    at.memory.value = static_cast<std::uint8_t>(at.value);
    stored_[page] = at.value;
  }
  digest(at.value);
  if (tells(page)) {
    tell(Line::Kind::kNote, thread.node, thread.node, page,
         fmt::format("{} {}", store ? "stores" : "loads", at.value));
  }
  if (store) {
    if (const char* broken = check_page(page)) return fail(broken, thread.node, page);
  }
  thread.state = Thread::State::kResting;
  --active_threads_;
  report_.worst_wait_ns = std::max(report_.worst_wait_ns, now_ - thread.since);
  if (thread.healing) return;
  queue_.push(now_ + random_.below(setting_.think_ns + 1), Event::Kind::kThread, thread.node, number);
}

// The page was mapped, or is already: whoever waits for it there tries again.
void Simulator::wake(std::uint8_t node, std::uint32_t page) {
  const std::uint32_t own = setting_.nodes * setting_.threads;
  for (std::uint32_t i = 0; i < setting_.threads; ++i) wake_one(node * setting_.threads + i, node, page);
  wake_one(own + page, node, page);
}

void Simulator::wake_one(std::uint32_t number, std::uint8_t node, std::uint32_t page) {
  Thread& thread = threads_[number];
  if (thread.state != Thread::State::kWaiting || thread.node != node || thread.page != page) return;
  if (healing_ && !setting_.hold_suffices() && was_granted(thread.access)) {
    thread.state = Thread::State::kResting;
    --active_threads_;
    return;
  }
  thread.state = Thread::State::kTrying;
  queue_.push(now_ + random_.below(setting_.wake_ns), Event::Kind::kThread, node, number);
}

// The transition that was just carried out mapped the page for this, though it may have unmapped it again.
bool Simulator::was_granted(Access access) const {
  using Kind = protocol::Effect::Kind;
  const auto effects = effects_.all();
  return std::any_of(effects.begin(), effects.end(), [&](const protocol::Effect& effect) {
    return effect.kind == Kind::kMapWrite || effect.kind == Kind::kUnprotect ||
           (effect.kind == Kind::kMapRead && access == Access::kRead);
  });
}

}  // namespace pagewire::sim
