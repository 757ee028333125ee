#include "test/model/explore.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <stdexcept>

#include "test/model/intern.h"
#include "test/model/invariants.h"

namespace pagewire::model {
namespace {

using protocol::NodeId;

class Explorer {
 public:
  Explorer(const Bounds& bounds, const Options& options)
      : bounds_(bounds), options_(options), universe_(bounds, options_.tamper) {}
  Report run();

 private:
  static constexpr std::size_t kNothing = ~std::size_t{0};
  using Clock = std::chrono::steady_clock;

  // How a state was first reached.
  struct Origin {
    std::uint32_t parent = 0;
    std::uint32_t action : 20 = 0;  // of the parent's node, in the parent's names
    std::uint32_t node : 4 = 0;
    std::uint32_t permutation : 8 = 0;  // from what the step gave to the state as it is kept
  };
  static_assert(kDeliverBase + 0x10000 <= 1 << 20);

  // A state that a step leads to, before it is known whether it is new.
  struct Reached {
    Origin origin;
    std::size_t begin = 0;  // of its key
    std::size_t bytes = 0;
    std::uint64_t hash = 0;
  };

  void expand(std::uint32_t state);
  void deliver_all(std::uint32_t state);
  void deliver_in_order(std::uint32_t state);
  bool must_wait(std::size_t place) const;
  bool waits_in_vain(const State& state);
  void act(std::uint32_t state, std::uint8_t node);
  void act_on_page(std::uint32_t state, std::uint8_t node, std::uint8_t page);
  void restart(std::uint32_t state, std::uint8_t node);
  void try_action(std::uint32_t state, std::uint8_t node, ActionNumber number, std::size_t taken = kNothing);
  void lose_all(std::uint32_t state);
  bool settles(bool last_first);
  void fire_all(State& now, std::vector<MessageNumber>& under_way);
  void take(State& now, std::uint8_t node, ActionNumber number, std::vector<MessageNumber>& under_way);
  void reach(std::uint8_t node, ActionNumber number);
  void note_reached(std::uint32_t from);
  void spend(const Action& action, const NodeCell& before);

  bool counts(const char* complaint) const {
    return complaint != nullptr && (!bounds_.only_coherence || complaint[0] == 'I');
  }
  bool after_loss() const { return state_.losses_left < (bounds_.losses ? 1 : 0); }
  void check_rest();

  void fail(const char* complaint, std::uint32_t state, std::uint8_t node, ActionNumber number);
  void trace(std::uint32_t state);
  void trace_step(std::uint8_t node, ActionNumber number, std::uint8_t names);
  std::vector<std::string> describe_nodes(const State& state, std::uint8_t names);
  void measure();
  bool must_stop(std::uint32_t state);

  const Bounds bounds_;
  const Options& options_;
  Report report_;
  Universe universe_;
  Clock::time_point start_ = Clock::now();
  std::clock_t cpu_start_ = std::clock();

  InternedBytes states_;
  Chunked<Origin> origins_;
  Chunked<char> rests_;
  Chunked<std::uint32_t> edges_;        // where each leads to, by the state that it leaves
  Chunked<std::uint64_t> first_edges_;  // of each state
  std::size_t level_end_ = 1;

  State state_;  // being expanded
  State after_;
  std::string key_;
  std::vector<Reached> reached_;  // from the state being expanded
  std::string reached_keys_;
};

// Notes the state after_, as it is called when folded. The table is large: its lines are asked for now and
// looked at when the whole state has been expanded.
void Explorer::reach(std::uint8_t node, ActionNumber number) {
  Reached reached;
  reached.origin.action = number & 0xfffff;
  reached.origin.node = node & 0xf;
  reached.origin.permutation = universe_.fold(after_);
  universe_.encode(after_, key_);
  reached.begin = reached_keys_.size();
  reached.bytes = key_.size();
  reached.hash = InternedBytes::hash_of(key_);
  reached_keys_ += key_;
  reached_.push_back(reached);
  states_.prefetch(reached.hash);
}

void Explorer::note_reached(std::uint32_t from) {
  for (const Reached& reached : reached_) states_.prefetch_string(reached.hash);
  for (Reached& reached : reached_) {
    const std::string_view key(reached_keys_.data() + reached.begin, reached.bytes);
    const auto [state, is_new] = states_.put(key, reached.hash);
    edges_.push_back(state);
    if (!is_new) continue;
    reached.origin.parent = from;
    origins_.push_back(reached.origin);
    universe_.decode(key, after_);
    rests_.push_back(at_rest(bounds_, universe_, after_) ? 1 : 0);
    const char* complaint = check(bounds_, universe_, after_);
    if (complaint == nullptr && bounds_.in_order && !bounds_.only_coherence && waits_in_vain(after_))
      complaint = "WAIT: somebody waits for what only a repetition can bring";
    if (complaint == nullptr) continue;
    fail(complaint, from, reached.origin.node & 0xf, reached.origin.action & 0xfffff);
    break;
  }
  reached_.clear();
  reached_keys_.clear();
}

// `taken`: the place of the message that is delivered, in a network that delivers each once.
void Explorer::try_action(std::uint32_t state, std::uint8_t node, ActionNumber number, std::size_t taken) {
  if (!report_.violation.empty()) return;
  const KnownStep& step = universe_.step(state_.cells[node], number);
  if (counts(step.complaint)) return fail(step.complaint, state, node, number);
  if (!step.possible) return;
  const auto sent = universe_.sent(step);
  after_.messages.clear();
  if (bounds_.in_order) {
    after_.messages = state_.messages;
    if (taken != kNothing)
      after_.messages.erase(after_.messages.begin() + static_cast<std::ptrdiff_t>(taken));
    after_.messages.insert(after_.messages.end(), sent.begin(), sent.end());
  } else {
    std::set_union(state_.messages.begin(), state_.messages.end(), sent.begin(), sent.end(),
                   std::back_inserter(after_.messages));
  }
  const bool stores = number / 1024 == static_cast<std::uint32_t>(Action::Kind::kStore);
  const bool same_network = taken == kNothing && after_.messages.size() == state_.messages.size();
  if (step.after == state_.cells[node] && same_network && !stores) return;
  after_.cells = state_.cells;
  after_.cells[node] = step.after;
  after_.stored = state_.stored;
  after_.faults_left = state_.faults_left;
  after_.forgets_left = state_.forgets_left;
  after_.losses_left = state_.losses_left;
  after_.next_owner = state_.next_owner;
  if (number < kDeliverBase) spend(universe_.action_of(number), universe_.cell(state_.cells[node]));
  reach(node, number);
}

// What is bounded and has been used.
void Explorer::spend(const Action& action, const NodeCell& before) {
  using Kind = Action::Kind;
  if (action.kind == Kind::kStore) after_.stored[action.page] = action.value;
  if (action.kind == Kind::kForget) after_.forgets_left -= 1;
  const PageCell& page = before.pages[action.page];  // a fault that was refused is asked again, at no cost
  if (action.kind == Kind::kReadFault && !page.refused_read) after_.faults_left -= 1;
  if (action.kind == Kind::kWriteFault && !page.refused_write) after_.faults_left -= 1;
  if (action.kind == Kind::kRestart && after_.next_owner == kNobody) {
    after_.next_owner = action.value;
    after_.stored = {};
  }
}

void Explorer::expand(std::uint32_t state) {
  first_edges_.push_back(edges_.size());
  universe_.decode(states_.get(state), state_);
  for (std::uint8_t node = 0; node < bounds_.nodes; ++node) act(state, node);
  if (bounds_.in_order) {
    deliver_in_order(state);
  } else {
    deliver_all(state);
  }
  if (report_.violation.empty() && state_.losses_left > 0 && !state_.messages.empty()) lose_all(state);
  if (report_.violation.empty()) note_reached(state);
}

void Explorer::deliver_all(std::uint32_t state) {
  for (const MessageNumber number : state_.messages) {
    if (!bounds_.overhear) {
      try_action(state, universe_.envelope(number).to, kDeliverBase + number);
      continue;
    }
    for (std::uint8_t node = 0; node < bounds_.nodes; ++node) try_action(state, node, kDeliverBase + number);
  }
}

void Explorer::deliver_in_order(std::uint32_t state) {
  for (std::size_t place = 0; place < state_.messages.size(); ++place) {
    const MessageNumber number = state_.messages[place];
    if (!must_wait(place)) try_action(state, universe_.envelope(number).to, kDeliverBase + number, place);
  }
}

// Whether one that was sent before must arrive before: on the same link, or a request before the
// acknowledgement that ends a hand-over.
bool Explorer::must_wait(std::size_t place) const {
  using protocol::MessageType;
  const Envelope& later = universe_.envelope(state_.messages[place]);
  for (std::size_t i = 0; i < place; ++i) {
    const Envelope& earlier = universe_.envelope(state_.messages[i]);
    if (earlier.to != later.to) continue;
    const MessageType type = earlier.message.type;
    const bool asks = type == MessageType::kCopyRequest || type == MessageType::kWriteRequest;
    if (earlier.message.from == later.message.from) return true;
    if (asks && later.message.type == MessageType::kTransferAck) return true;
  }
  return false;
}

// Nothing is under way, no time ends anything, and there is something to be done.
bool Explorer::waits_in_vain(const State& state) {
  if (!state.messages.empty() || at_rest(bounds_, universe_, state)) return false;
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i) {
    for (std::uint32_t p = 0; p < bounds_.pages; ++p) {
      const PageCell& page = universe_.cell(state.cells[i]).pages[p];
      if (waits_for_time(page) || page.refused_read || page.refused_write) return false;
    }
  }
  return true;
}

void Explorer::act(std::uint32_t state, std::uint8_t node) {
  for (std::uint8_t page = 0; page < bounds_.pages; ++page) act_on_page(state, node, page);
  if (bounds_.restart != Restart::kNone) restart(state, node);
}

void Explorer::act_on_page(std::uint32_t state, std::uint8_t node, std::uint8_t page) {
  using Kind = Action::Kind;
  const PageCell& cell = universe_.cell(state_.cells[node]).pages[page];
  const bool reads = state_.faults_left > 0 || cell.refused_read;
  const bool writes = state_.faults_left > 0 || cell.refused_write;
  if (reads) try_action(state, node, number_of(Kind::kReadFault, page, 0));
  if (writes) try_action(state, node, number_of(Kind::kWriteFault, page, 0));
  try_action(state, node, number_of(Kind::kTimeout, page, 0));
  try_action(state, node, number_of(Kind::kTurnTaken, page, 0));
  if (bounds_.hold) try_action(state, node, number_of(Kind::kHoldOver, page, 0));
  if (state_.forgets_left > 0) try_action(state, node, number_of(Kind::kForget, page, 0));
  if (state_.stored[page] >= bounds_.stores || after_loss()) return;
  if (universe_.cell(state_.cells[node]).life < newest_life(bounds_, universe_, state_)) return;
  const auto value = static_cast<std::uint8_t>(state_.stored[page] + 1);
  try_action(state, node, number_of(Kind::kStore, page, value));
}

// The first to restart decides, anyhow, where the page begins in the next life.
void Explorer::restart(std::uint32_t state, std::uint8_t node) {
  using Kind = Action::Kind;
  if (state_.next_owner != kNobody)
    return try_action(state, node, number_of(Kind::kRestart, 0, state_.next_owner));
  for (std::uint8_t owner = 0; owner < bounds_.nodes; ++owner)
    try_action(state, node, number_of(Kind::kRestart, 0, owner));
}

void Explorer::take(State& now, std::uint8_t node, ActionNumber number,
                    std::vector<MessageNumber>& under_way) {
  const KnownStep& step = universe_.step(now.cells[node], number);
  if (!step.possible) return;
  for (const MessageNumber message : universe_.sent(step)) under_way.push_back(message);
  now.cells[node] = step.after;
}

// What was refused is asked again, holds end, timers come.
void Explorer::fire_all(State& now, std::vector<MessageNumber>& under_way) {
  using Kind = Action::Kind;
  for (std::uint8_t node = 0; node < bounds_.nodes; ++node) {
    for (std::uint8_t page = 0; page < bounds_.pages; ++page) {
      const bool reads = universe_.cell(now.cells[node]).pages[page].refused_read;
      const bool writes = universe_.cell(now.cells[node]).pages[page].refused_write;
      if (reads) take(now, node, number_of(Kind::kReadFault, page, 0), under_way);
      if (writes) take(now, node, number_of(Kind::kWriteFault, page, 0), under_way);
      take(now, node, number_of(Kind::kHoldOver, page, 0), under_way);
      take(now, node, number_of(Kind::kTimeout, page, 0), under_way);
    }
  }
}

// I6 as `will`, not only `can`: all under way is lost, from then on the network delivers everything, the
// first or the last first, and timers come when nothing is under way. A few turns must do.
bool Explorer::settles(bool last_first) {
  constexpr int kTurns = 5;         // three accesses, some with a grace and a hold
  constexpr int kDeliveries = 300;  // of a turn
  State now;
  now.cells = state_.cells;
  std::vector<MessageNumber> under_way;
  for (int turn = 0; turn < kTurns && !at_rest(bounds_, universe_, now); ++turn) {
    fire_all(now, under_way);
    int left = kDeliveries;
    while (!under_way.empty()) {
      if (left-- == 0) return false;
      const auto at = last_first ? under_way.end() - 1 : under_way.begin();
      const MessageNumber message = *at;
      under_way.erase(at);
      take(now, universe_.envelope(message).to, kDeliverBase + message, under_way);
    }
  }
  return at_rest(bounds_, universe_, now);
}

// Whatever is on its way never arrives. What follows shows only that the system still comes to rest: nothing
// new is asked.
void Explorer::lose_all(std::uint32_t state) {
  bool one_life = true;
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i)
    one_life &= universe_.cell(state_.cells[i]).life == universe_.cell(state_.cells[0]).life;
  if (one_life && (!settles(false) || !settles(true))) {
    return fail("I6: with all under way lost it does not settle by itself", state, 0,
                number_of(Action::Kind::kLoseAll, 0, 0));
  }
  after_ = state_;
  after_.losses_left -= 1;
  after_.faults_left = 0;
  after_.forgets_left = 0;
  after_.messages.clear();
  reach(0, number_of(Action::Kind::kLoseAll, 0, 0));
}

// I6: whatever leads to a state that can come to rest can come to rest. States have higher numbers than those
// from which they were first reached, so a sweep from the last to the first carries far; sweeps are repeated
// until nothing changes.
void Explorer::check_rest() {
  const std::size_t count = states_.size();
  const auto end_of = [&](std::size_t state) {
    return state + 1 < count ? first_edges_[state + 1] : edges_.size();
  };
  for (std::size_t state = 0; state < count; ++state) {
    if (rests_[state] == 0 && first_edges_[state] == end_of(state)) ++report_.deadlocks;
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (std::size_t state = count; state-- > 0;) {
      if (rests_[state] != 0) continue;
      for (std::uint64_t i = first_edges_[state]; i < end_of(state) && rests_[state] == 0; ++i)
        rests_[state] = rests_[edges_[i]];
      changed |= rests_[state] != 0;
    }
  }
  for (std::uint32_t state = 0; state < count; ++state) {
    if (rests_[state] != 0 || report_.stuck++ > 0) continue;
    report_.violation = "I6: the system can never come to rest";
    trace(state);
  }
}

void Explorer::fail(const char* complaint, std::uint32_t state, std::uint8_t node, ActionNumber number) {
  report_.violation = complaint;
  trace(state);
  std::uint8_t names = 0;  // from the start's names to those of `state`
  std::vector<std::uint32_t> way;
  for (std::uint32_t at = state; at != 0; at = origins_[at].parent) way.push_back(at);
  names = origins_[0].permutation & 0xff;
  for (auto at = way.rbegin(); at != way.rend(); ++at)
    names = universe_.permutations().compose(names, origins_[*at].permutation & 0xff);
  universe_.decode(states_.get(state), state_);
  trace_step(node, number, names);
  State after = state_;
  if (universe_.action_of(number).kind != Action::Kind::kLoseAll)
    after.cells[node] = universe_.step(state_.cells[node], number).after;
  report_.path.back().nodes = describe_nodes(after, names);
}

std::vector<std::string> Explorer::describe_nodes(const State& state, std::uint8_t names) {
  State renamed = state;
  universe_.rename(renamed, universe_.permutations().inverse(names));
  std::vector<std::string> nodes;
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i)
    nodes.push_back(describe(bounds_, universe_.cell(renamed.cells[i])));
  return nodes;
}

// Adds a step to the path; `names` lead from the start's names to those in which the step is told.
void Explorer::trace_step(std::uint8_t node, ActionNumber number, std::uint8_t names) {
  const Permutations& permutations = universe_.permutations();
  const std::uint8_t back = permutations.inverse(names);
  PathStep step;
  step.node = NodeId{permutations[back][node]};
  Action action = universe_.action_of(number);
  step.kind = action.kind;
  if (action.kind == Action::Kind::kDeliver) {
    step.envelope =
        universe_.envelope(universe_.renamed(static_cast<MessageNumber>(number - kDeliverBase), back));
    action.envelope = &step.envelope;
  }
  if (action.kind == Action::Kind::kRestart) action.value = permutations[back][action.value];
  step.text = describe(action, step.node);
  report_.path.push_back(std::move(step));
}

void Explorer::trace(std::uint32_t state) {
  std::vector<std::uint32_t> way;
  for (std::uint32_t at = state; at != 0; at = origins_[at].parent) way.push_back(at);
  std::reverse(way.begin(), way.end());
  State at;
  std::uint8_t names = origins_[0].permutation & 0xff;
  universe_.decode(states_.get(0), at);
  PathStep start;
  start.text = "start";
  start.nodes = describe_nodes(at, names);
  report_.path.push_back(std::move(start));
  for (const std::uint32_t next : way) {
    const Origin& origin = origins_[next];
    trace_step(origin.node & 0xf, origin.action & 0xfffff, names);
    names = universe_.permutations().compose(names, origin.permutation & 0xff);
    universe_.decode(states_.get(next), at);
    report_.path.back().nodes = describe_nodes(at, names);
  }
}

void Explorer::measure() {
  report_.states = states_.size();
  report_.edges = edges_.size();
  report_.node_states = universe_.cell_count();
  report_.messages = universe_.message_count();
  report_.memory_bytes = states_.bytes() + origins_.bytes() + rests_.bytes() + edges_.bytes() +
                         first_edges_.bytes() + universe_.bytes();
  report_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  report_.cpu_seconds = static_cast<double>(std::clock() - cpu_start_) / CLOCKS_PER_SEC;
}

// Also notes the progress, now and then.
bool Explorer::must_stop(std::uint32_t state) {
  if (state == level_end_) {
    ++report_.depth;
    level_end_ = states_.size();
  }
  if (states_.size() > bounds_.states_max) return true;
  if (state % (1 << 16) != 0) return false;
  measure();
  if (options_.progress) options_.progress(report_);
  return report_.seconds > options_.seconds_max;
}

Report Explorer::run() {
  for (std::uint8_t node = 0; node < bounds_.nodes; ++node)
    after_.cells[node] = universe_.intern(initial_cell(bounds_, NodeId{node}));
  after_.faults_left = static_cast<std::uint8_t>(bounds_.faults);
  after_.forgets_left = static_cast<std::uint8_t>(bounds_.forgets);
  after_.losses_left = bounds_.losses ? 1 : 0;
  Origin origin;
  origin.permutation = universe_.fold(after_);
  universe_.encode(after_, key_);
  states_.put(key_);
  origins_.push_back(origin);
  rests_.push_back(1);
  std::uint32_t state = 0;
  try {
    for (; state < states_.size() && report_.violation.empty() && !must_stop(state); ++state) expand(state);
  } catch (const std::length_error&) {
    state = 0;
  }
  report_.complete = state == states_.size() && report_.violation.empty();
  if (report_.complete) check_rest();
  measure();
  return report_;
}

}  // namespace

Report explore(const Bounds& bounds, const Options& options) { return Explorer(bounds, options).run(); }

}  // namespace pagewire::model
