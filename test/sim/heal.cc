// The second phase (I6): the network is whole, nothing new is asked. Everything that was asked must be
// answered within a bound; then each node writes each page, and the cluster comes to rest.
#include <algorithm>

#include "test/sim/simulator.h"

namespace pagewire::sim {

using protocol::kNoRound;

namespace {

// Steps in which the cluster must have settled, whatever its size; a bound on work, as heal_bound_ns() is on
// time.
constexpr std::uint64_t kHealStepsMax = 1'000'000;

}  // namespace

// How long settling may take. What was held up or copied late in the first phase still arrives. Then each
// page must pass through each node once, a node's pool admits so many at a time, and each passage may need a
// few repeats: a dozen of the longest.
std::uint64_t Simulator::heal_bound_ns() const {
  const std::uint64_t left_over = setting_.late_ns + 2 * setting_.calamity_ns;
  const std::uint64_t passage = setting_.held_ns() + setting_.grace_ns + 4 * setting_.delay_ns_max() +
                                setting_.wake_ns + setting_.ring_ns + 15'000;
  const std::uint64_t turns = 1 + setting_.pages / std::max(setting_.local_rounds(), 1U);
  return left_over + turns * (setting_.nodes * passage + 12 * setting_.retry_ns_max);
}

void Simulator::heal() {
  healing_ = true;
  network_.calm();
  report_.heal_bound_ns = heal_bound_ns();
  for (Node& node : nodes_) node.paused_until = std::min(node.paused_until, now_);
  if (tells(std::nullopt)) tell(Line::Kind::kWeather, 0, 0, std::nullopt, "the network is whole");
  if (!settle(false)) return;
  each_writes_each();
  if (report_.violation || !settle(true)) return;
  check_rest();
}

bool Simulator::settle(bool and_network) {
  const std::uint64_t start = now_;
  const std::uint64_t steps_max = report_.steps + kHealStepsMax;
  while (!is_settled(and_network)) {
    const bool late = now_ > start + report_.heal_bound_ns || report_.steps > steps_max;
    if (!late && advance()) continue;
    fail(late ? "I6: not answered within the bound" : "I6: not answered, and nothing is under way", 0,
         open_page().value_or(0));
    return false;
  }
  if (!and_network) report_.heal_ns = std::max(report_.heal_ns, now_ - start);
  return true;
}

bool Simulator::is_settled(bool and_network) {
  // What waits for the dead is repeated for ever.
  if (living_ != setting_.nodes) return !open_page();
  if (active_threads_ != 0 || faults_in_rings_ != 0) return false;
  if (and_network && network_.in_flight() != 0) return false;
  return std::all_of(nodes_.begin(), nodes_.begin() + setting_.nodes,
                     [](const Node& node) { return node.rounds->in_use() == 0; });
}

// A page for which something is still to be done, if any; not those that were given up.
std::optional<std::uint32_t> Simulator::open_page() {
  for (const Thread& thread : threads_) {
    if (thread.state != Thread::State::kResting && given_up_[thread.page] == 0) return thread.page;
  }
  for (std::uint32_t page = 0; page < setting_.pages; ++page) {
    for (std::uint8_t n = 0; n < setting_.nodes && given_up_[page] == 0; ++n) {
      if (slot(n, page).entry.round != kNoRound) return page;
    }
  }
  return std::nullopt;
}

// One node after the other, all pages at once.
void Simulator::each_writes_each() {
  const std::uint32_t own = setting_.nodes * setting_.threads;
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    if (nodes_[n].dead) continue;
    for (std::uint32_t page = 0; page < setting_.pages; ++page) {
      if (given_up_[page] != 0) continue;
      Thread& thread = threads_[own + page];
      thread.node = n;
      thread.page = page;
      thread.access = protocol::Access::kWrite;
      thread.state = Thread::State::kTrying;
      thread.since = now_;
      ++active_threads_;
      queue_.push(now_, Event::Kind::kThread, n, own + page);
    }
    if (!settle(false)) return;
  }
}

void Simulator::check_rest() {
  check_all();
  for (std::uint32_t page = 0; page < setting_.pages && !report_.violation; ++page) {
    std::uint32_t owners = 0;
    for (std::uint8_t n = 0; n < setting_.nodes; ++n) owners += slot(n, page).entry.owner ? 1 : 0;
    if (owners != 1 && given_up_[page] == 0) fail("I4: at rest, and not exactly one owner", 0, page);
  }
}

}  // namespace pagewire::sim
