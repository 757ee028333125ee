#include "test/model/explore.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <unordered_map>

#include "test/model/intern.h"

namespace pagewire::model {
namespace {

using protocol::kNoRound;
using protocol::NodeId;
using protocol::Permission;
using protocol::Stage;

// A state of the whole cluster: numbers of interned cells and envelopes. Stored as bytes: head, then
// messages.
struct Head {
  std::array<std::uint32_t, 4> cells{};
  std::array<std::uint8_t, kPagesMax> stored{};  // the last store to each page, of whichever node
  std::uint8_t faults_left = 0;
  std::uint8_t forgets_left = 0;
  std::uint8_t losses_left = 0;
  std::uint8_t unused = 0;
};
static_assert(std::has_unique_object_representations_v<Head>);
using Network = std::vector<std::uint16_t>;  // sorted

// What a node's step is, by numbers: kinds other than kDeliver are below kDeliverBase.
constexpr std::uint32_t kDeliverBase = 8 * 1024;
using ActionNumber = std::uint32_t;

ActionNumber number_of(Action::Kind kind, std::uint8_t page, std::uint8_t value) {
  return static_cast<std::uint32_t>(kind) * 1024 + page * 256U + value;
}

// A step in numbers; remembered, as most are met many times.
struct KnownStep {
  bool possible = false;
  const char* complaint = nullptr;
  std::uint32_t after = 0;
  std::vector<std::uint16_t> sent;  // sorted
};

class Explorer {
 public:
  Explorer(const Bounds& bounds, const Tamper& tamper) : bounds_(bounds), tamper_(tamper) {}
  Report run();

 private:
  struct Origin {
    std::uint32_t parent;
    std::uint32_t action;
    std::uint32_t depth;
    std::uint8_t node;
  };

  void load(std::uint32_t state);
  void expand(std::uint32_t state);
  void try_action(std::uint32_t state, std::uint8_t node, ActionNumber number);
  void lose_all(std::uint32_t state);
  void reach(std::uint32_t from, std::uint8_t node, ActionNumber number, const Head& head,
             const Network& network);
  const KnownStep& known_step(std::uint32_t cell, ActionNumber number);
  KnownStep make_step(std::uint32_t cell, ActionNumber number);
  Action action_of(ActionNumber number) const;
  std::uint32_t intern(const NodeCell& cell);
  std::uint16_t intern(const Envelope& envelope);
  const char* check(const Head& head) const;
  const char* check_page(const Head& head, std::uint8_t page) const;
  bool at_rest(const Head& head) const;
  bool after_loss() const { return head_.losses_left < (bounds_.losses ? 1 : 0); }
  void fail(const char* complaint, std::uint32_t state, std::uint8_t node, ActionNumber number);
  std::string path_to(std::uint32_t state) const;
  std::string text_of(std::uint32_t state) const;
  void check_rest();

  const Bounds bounds_;
  const Tamper& tamper_;
  Report report_;

  std::unordered_map<std::string, std::uint32_t> cell_numbers_;
  std::deque<NodeCell> cells_;
  std::unordered_map<std::string, std::uint16_t> envelope_numbers_;
  std::deque<Envelope> envelopes_;
  std::unordered_map<std::uint64_t, KnownStep> steps_;

  InternedBytes states_;
  std::vector<Origin> origins_;
  std::vector<char> rests_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> edges_;

  Head head_;  // of the state being expanded
  Network network_;
  std::string key_;
  Network merged_;
};

std::uint32_t Explorer::intern(const NodeCell& cell) {
  const auto [at, is_new] =
      cell_numbers_.emplace(encode(bounds_, cell), static_cast<std::uint32_t>(cells_.size()));
  if (is_new) cells_.push_back(cell);
  return at->second;
}

std::uint16_t Explorer::intern(const Envelope& envelope) {
  if (envelopes_.size() == 0xffff) std::abort();
  const auto [at, is_new] =
      envelope_numbers_.emplace(encode(envelope), static_cast<std::uint16_t>(envelopes_.size()));
  if (is_new) envelopes_.push_back(envelope);
  return at->second;
}

Action Explorer::action_of(ActionNumber number) const {
  if (number >= kDeliverBase) {
    const Envelope& envelope = envelopes_[number - kDeliverBase];
    return Action{Action::Kind::kDeliver, envelope.page, 0, &envelope};
  }
  return Action{static_cast<Action::Kind>(number / 1024), static_cast<std::uint8_t>(number / 256 % 4),
                static_cast<std::uint8_t>(number % 256), nullptr};
}

KnownStep Explorer::make_step(std::uint32_t cell, ActionNumber number) {
  const Action action = action_of(number);
  Step step = take_step(bounds_, cells_[cell], action);
  if (tamper_ && step.possible) tamper_(cells_[cell], action, step);
  const char* complaint = check_step(cells_[cell], action, step);
  KnownStep known{.possible = step.possible, .complaint = complaint, .after = 0, .sent = {}};
  if (!step.possible) return known;
  known.after = intern(step.after);
  for (const Envelope& envelope : step.sent) known.sent.push_back(intern(envelope));
  std::sort(known.sent.begin(), known.sent.end());
  known.sent.erase(std::unique(known.sent.begin(), known.sent.end()), known.sent.end());
  return known;
}

const KnownStep& Explorer::known_step(std::uint32_t cell, ActionNumber number) {
  const std::uint64_t key = std::uint64_t{cell} << 32 | number;
  auto found = steps_.find(key);
  if (found == steps_.end()) found = steps_.emplace(key, make_step(cell, number)).first;
  return found->second;
}

// I1-I4 for one page.
const char* Explorer::check_page(const Head& head, std::uint8_t page) const {
  std::uint32_t owners = 0;
  std::uint32_t under_way = 0;
  std::uint32_t writers = 0;
  std::uint32_t readers = 0;
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i) {
    const PageCell& cell = cells_[head.cells[i]].pages[page];
    owners += cell.entry.owner ? 1 : 0;
    writers += cell.memory.mapping == Permission::kWrite ? 1 : 0;
    readers += cell.memory.mapping == Permission::kRead ? 1 : 0;
    if (cell.memory.mapping != Permission::kInvalid && cell.memory.value != head.stored[page]) {
      return "I2: a node may read what is not the last write";
    }
    if (cell.entry.round == kNoRound || cell.round.stage != Stage::kHandingOver) continue;
    const PageCell& target = cells_[head.cells[cell.round.target.value]].pages[page];
    under_way += target.entry.epoch <= cell.entry.epoch ? 1 : 0;
  }
  if (writers > 1 || (writers == 1 && readers > 0)) return "I1: a writer and others";
  if (owners > 1) return "I3: more than one owner";
  return owners + under_way == 1 ? nullptr : "I4: not exactly one of owner and hand-over under way";
}

const char* Explorer::check(const Head& head) const {
  for (std::uint8_t page = 0; page < bounds_.pages; ++page) {
    if (const char* complaint = check_page(head, page)) return complaint;
  }
  return nullptr;
}

bool Explorer::at_rest(const Head& head) const {
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i) {
    for (std::uint32_t p = 0; p < bounds_.pages; ++p) {
      if (cells_[head.cells[i]].pages[p].entry.round != kNoRound) return false;
    }
  }
  return true;
}

void Explorer::load(std::uint32_t state) {
  const std::string_view bytes = states_.get(state);
  std::memcpy(&head_, bytes.data(), sizeof head_);
  network_.resize((bytes.size() - sizeof head_) / sizeof(Network::value_type));
  std::memcpy(network_.data(), bytes.data() + sizeof head_, bytes.size() - sizeof head_);
}

void Explorer::reach(std::uint32_t from, std::uint8_t node, ActionNumber number, const Head& head,
                     const Network& network) {
  key_.assign(reinterpret_cast<const char*>(&head), sizeof head);
  key_.append(reinterpret_cast<const char*>(network.data()), network.size() * sizeof(Network::value_type));
  const auto [state, is_new] = states_.put(key_);
  ++report_.edges;
  edges_.emplace_back(from, state);
  if (!is_new) return;
  origins_.push_back(Origin{from, number, origins_[from].depth + 1, node});
  rests_.push_back(at_rest(head) ? 1 : 0);
  if (const char* complaint = check(head)) fail(complaint, from, node, number);
}

void Explorer::try_action(std::uint32_t state, std::uint8_t node, ActionNumber number) {
  if (!report_.violation.empty()) return;
  const KnownStep& step = known_step(head_.cells[node], number);
  if (step.complaint != nullptr) return fail(step.complaint, state, node, number);
  if (!step.possible) return;
  Head after = head_;
  after.cells[node] = step.after;
  if (number < kDeliverBase) {
    const Action action = action_of(number);
    if (action.kind == Action::Kind::kStore) after.stored[action.page] = action.value;
    if (action.kind == Action::Kind::kForget) after.forgets_left -= 1;
    if (action.kind == Action::Kind::kReadFault || action.kind == Action::Kind::kWriteFault)
      after.faults_left -= 1;
  }
  merged_.clear();
  std::set_union(network_.begin(), network_.end(), step.sent.begin(), step.sent.end(),
                 std::back_inserter(merged_));
  if (after.cells == head_.cells && after.stored == head_.stored && merged_.size() == network_.size()) return;
  reach(state, node, number, after, merged_);
}

void Explorer::expand(std::uint32_t state) {
  using Kind = Action::Kind;
  load(state);
  for (std::uint8_t node = 0; node < bounds_.nodes; ++node) {
    for (std::uint8_t page = 0; page < bounds_.pages; ++page) {
      if (head_.faults_left > 0) {
        try_action(state, node, number_of(Kind::kReadFault, page, 0));
        try_action(state, node, number_of(Kind::kWriteFault, page, 0));
      }
      try_action(state, node, number_of(Kind::kTimeout, page, 0));
      if (bounds_.hold) try_action(state, node, number_of(Kind::kHoldOver, page, 0));
      if (head_.forgets_left > 0) try_action(state, node, number_of(Kind::kForget, page, 0));
      if (head_.stored[page] < bounds_.stores && !after_loss()) {
        try_action(state, node,
                   number_of(Kind::kStore, page, static_cast<std::uint8_t>(head_.stored[page] + 1)));
      }
    }
  }
  for (const std::uint16_t number : network_) try_action(state, envelopes_[number].to, kDeliverBase + number);
  if (head_.losses_left > 0 && !network_.empty()) lose_all(state);
}

// Whatever is on its way never arrives. What follows shows only that the system still comes to rest: nothing
// new is asked.
void Explorer::lose_all(std::uint32_t state) {
  Head after = head_;
  after.losses_left -= 1;
  after.faults_left = 0;
  after.forgets_left = 0;
  reach(state, 0, number_of(Action::Kind::kLoseAll, 0, 0), after, Network{});
}

// I6: walks backwards from the states at rest; whatever is not met is stuck.
void Explorer::check_rest() {
  std::vector<std::uint32_t> first(states_.size() + 1, 0);
  for (const auto& [from, to] : edges_) ++first[to + 1];
  for (std::size_t i = 1; i < first.size(); ++i) first[i] += first[i - 1];
  std::vector<std::uint32_t> sources(edges_.size());
  std::vector<std::uint32_t> next(first.begin(), first.end() - 1);
  for (const auto& [from, to] : edges_) sources[next[to]++] = from;

  std::vector<std::uint32_t> open;
  for (std::uint32_t state = 0; state < rests_.size(); ++state) {
    if (rests_[state] != 0) open.push_back(state);
  }
  while (!open.empty()) {
    const std::uint32_t state = open.back();
    open.pop_back();
    for (std::uint32_t i = first[state]; i < first[state + 1]; ++i) {
      if (rests_[sources[i]] != 0) continue;
      rests_[sources[i]] = 1;
      open.push_back(sources[i]);
    }
  }
  for (std::uint32_t state = 0; state < rests_.size(); ++state) {
    if (rests_[state] != 0) continue;
    if (report_.stuck++ > 0) continue;
    report_.violation = "I6: the system can never come to rest";
    report_.path = path_to(state);
  }
}

void Explorer::fail(const char* complaint, std::uint32_t state, std::uint8_t node, ActionNumber number) {
  report_.violation = complaint;
  report_.path = path_to(state);
  std::uint32_t cell = 0;
  const std::string_view bytes = states_.get(state);
  std::memcpy(&cell, bytes.data() + node * sizeof cell, sizeof cell);
  const KnownStep& step = known_step(cell, number);
  report_.path +=
      describe(action_of(number), NodeId{node}) + "\n    " + describe(bounds_, cells_[step.after]) + "\n";
}

std::string Explorer::text_of(std::uint32_t state) const {
  Head head;
  std::memcpy(&head, states_.get(state).data(), sizeof head);
  std::string text;
  for (std::uint32_t i = 0; i < bounds_.nodes; ++i)
    text += "    " + describe(bounds_, cells_[head.cells[i]]) + "\n";
  return text;
}

std::string Explorer::path_to(std::uint32_t state) const {
  std::vector<std::uint32_t> way;
  for (std::uint32_t at = state; at != 0; at = origins_[at].parent) way.push_back(at);
  std::reverse(way.begin(), way.end());
  std::string text = "start\n" + text_of(0);
  for (const std::uint32_t at : way) {
    text += describe(action_of(origins_[at].action), NodeId{origins_[at].node}) + "\n" + text_of(at);
  }
  return text;
}

Report Explorer::run() {
  for (std::uint8_t node = 0; node < bounds_.nodes; ++node) {
    head_.cells[node] = intern(initial_cell(bounds_, NodeId{node}));
  }
  head_.faults_left = static_cast<std::uint8_t>(bounds_.faults);
  head_.forgets_left = static_cast<std::uint8_t>(bounds_.forgets);
  head_.losses_left = bounds_.losses ? 1 : 0;
  key_.assign(reinterpret_cast<const char*>(&head_), sizeof head_);
  states_.put(key_);
  origins_.push_back(Origin{0, 0, 0, 0});
  rests_.push_back(1);
  std::uint32_t state = 0;
  for (; state < states_.size() && states_.size() <= bounds_.states_max && report_.violation.empty();
       ++state) {
    expand(state);
  }
  report_.complete = state == states_.size() && report_.violation.empty();
  if (report_.complete) check_rest();
  report_.states = states_.size();
  report_.node_states = cells_.size();
  report_.messages = envelopes_.size();
  report_.depth = origins_.back().depth;
  return report_;
}

}  // namespace

std::string Report::summary() const {
  std::string text = std::to_string(states) + " states, " + std::to_string(edges) + " edges, " +
                     std::to_string(node_states) + " node states, " + std::to_string(messages) +
                     " messages, depth " + std::to_string(depth) + ", stuck " + std::to_string(stuck) +
                     (complete ? ", complete" : ", not complete");
  if (!violation.empty()) text += "\n" + violation + "\n" + path;
  return text;
}

Report explore(const Bounds& bounds, const Tamper& tamper) { return Explorer(bounds, tamper).run(); }

}  // namespace pagewire::model
