#include "test/history/order.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <utility>

namespace pagewire::history {

namespace {
std::uint64_t pair_key(std::uint32_t before, std::uint32_t after) {
  return std::uint64_t{before} << 32 | after;
}
}  // namespace

Order::Order(const Resolved& resolved)
    : resolved_(resolved),
      edges_from_(resolved.clusters().size()),
      by_client_and_word_(std::size_t{resolved.client_count()} * resolved.word_count()) {
  for (Index i = 0; i < resolved.operation_count(); ++i) {
    by_client_and_word_[std::size_t{resolved.client_of(i)} * resolved.word_count() + resolved.at(i).word]
        .push_back(i);
  }
  for (std::uint32_t cluster = resolved.word_count(); cluster < resolved.clusters().size(); ++cluster) {
    add({.before = resolved.clusters()[cluster].word,
         .after = cluster});  // a word's first value is its first
  }
}

void Order::add(const ClusterEdge& edge) {
  const auto name = static_cast<std::uint32_t>(edges_.size());
  if (!known_.emplace(pair_key(edge.before, edge.after), name).second) return;
  edges_.push_back(edge);
  edges_from_[edge.before].push_back(name);
}

template <typename Visit>
void Order::for_each_next(Index node, const Visit& visit) const {
  if (is_end(node)) {
    for (const std::uint32_t edge : edges_from_[node - resolved_.node_count()]) {
      visit(resolved_.clusters()[edges_[edge].after].head, edge);
    }
    return;
  }
  if (!resolved_.is_first_value(node)) {
    const Index next = node + 1;
    if (next < resolved_.first_of(resolved_.client_of(node) + 1)) visit(next, kNone);
  }
  if (resolved_.at(node).writes()) {
    for (const Index reader : resolved_.readers(node)) visit(reader, kNone);
    if (resolved_.replacer(node) != kNone) visit(resolved_.replacer(node), kNone);
  } else if (const Index replacer = resolved_.replacer(resolved_.source(node)); replacer != kNone) {
    visit(replacer, kNone);
  }
  visit(end_of(resolved_.cluster_of(node)), kNone);
}

// Kahn's algorithm; a node's clock is the maximum of those before it, and counts the node itself.
bool Order::sort_and_clock() {
  const std::uint32_t clients = resolved_.client_count();
  std::vector<std::uint32_t> waits_for(node_count(), 0);
  for (Index node = 0; node < node_count(); ++node) {
    for_each_next(node, [&](Index next, Index) { ++waits_for[next]; });
  }
  clock_.assign(node_count() * clients, 0);
  std::vector<Index> ready;
  for (Index node = 0; node < node_count(); ++node) {
    if (waits_for[node] == 0) ready.push_back(node);
  }
  on_cycle_or_after_.assign(node_count(), true);
  std::size_t sorted = 0;
  while (!ready.empty()) {
    const Index node = ready.back();
    ready.pop_back();
    on_cycle_or_after_[node] = false;
    ++sorted;
    std::uint32_t* clock = &clock_[std::size_t{node} * clients];
    if (node < resolved_.operation_count()) {
      const std::uint32_t client = resolved_.client_of(node);
      clock[client] = node - resolved_.first_of(client) + 1;
    }
    for_each_next(node, [&](Index next, Index) {
      std::uint32_t* later = &clock_[std::size_t{next} * clients];
      for (std::uint32_t client = 0; client < clients; ++client) {
        later[client] = std::max(later[client], clock[client]);
      }
      if (--waits_for[next] == 0) ready.push_back(next);
    });
  }
  return sorted == node_count();
}

// Whether the clocks have it already that the one cluster is over before the other begins.
bool Order::is_known(std::uint32_t before, std::uint32_t after) const {
  if (known_.contains(pair_key(before, after))) return true;
  const std::uint32_t clients = resolved_.client_count();
  const std::uint32_t* over = &clock_[std::size_t{end_of(before)} * clients];
  const std::uint32_t* begins = &clock_[std::size_t{resolved_.clusters()[after].head} * clients];
  return std::equal(over, over + clients, begins, [](std::uint32_t a, std::uint32_t b) { return a <= b; });
}

// Of `client`'s operations on the word, the last that precedes `operation`: if it is of another cluster, that
// one comes first. Earlier ones precede that last one, and are seen from there.
void Order::look_back(Index operation, std::uint32_t client, std::uint32_t ops_before, bool& added) {
  const std::uint32_t word = resolved_.at(operation).word;
  const auto& list = by_client_and_word_[std::size_t{client} * resolved_.word_count() + word];
  const auto past = std::lower_bound(list.begin(), list.end(), resolved_.first_of(client) + ops_before);
  if (past == list.begin()) return;
  const Index last = *(past - 1);
  const std::uint32_t before = resolved_.cluster_of(last);
  const std::uint32_t after = resolved_.cluster_of(operation);
  if (before == after || is_known(before, after)) return;
  add({.before = before, .after = after, .reason_from = last, .reason_to = operation, .round = round_});
  added = true;
}

bool Order::add_what_follows() {
  bool added = false;
  const std::uint32_t clients = resolved_.client_count();
  for (Index operation = 0; operation < resolved_.operation_count(); ++operation) {
    const std::uint32_t own = resolved_.client_of(operation);
    const std::uint32_t* clock = &clock_[std::size_t{operation} * clients];
    for (std::uint32_t client = 0; client < clients; ++client) {
      look_back(operation, client, clock[client] - (client == own ? 1 : 0), added);
    }
  }
  return added;
}

bool Order::derive() {
  for (;;) {
    ++round_;
    if (!sort_and_clock()) return false;
    if (!add_what_follows()) return true;
  }
}

std::vector<std::vector<std::uint32_t>> Order::cluster_predecessors() const {
  std::vector<std::vector<std::uint32_t>> before(resolved_.clusters().size());
  for (const ClusterEdge& edge : edges_) before[edge.after].push_back(edge.before);
  return before;
}

// A step of a client's own order costs nothing: a long run of them is told by its ends.
template <typename Allowed>
Order::Path Order::shortest_path(Index from, Index to, std::uint32_t round, std::uint32_t cost_below,
                                 const Allowed& allowed) const {
  constexpr std::uint32_t kFar = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> cost(node_count(), kFar);
  std::vector<Index> came_from(node_count(), kNone);
  std::deque<std::pair<Index, std::uint32_t>> queue{{from, 0}};
  while (!queue.empty() && cost[to] == kFar) {
    const Index node = queue.front().first;
    const std::uint32_t so_far = queue.front().second;
    queue.pop_front();
    if (so_far > cost[node]) continue;  // it was reached again by a cheaper way
    for_each_next(node, [&](Index next, Index edge) {
      if (!allowed(next) || (edge != kNone && edges_[edge].round >= round)) return;
      const bool free = next == node + 1 && node < resolved_.operation_count();
      const std::uint32_t then = so_far + (free ? 0 : 1);
      if (then >= cost[next] || then >= cost_below) return;
      cost[next] = then;
      came_from[next] = node;
      free ? queue.emplace_front(next, then) : queue.emplace_back(next, then);
    });
  }
  if (cost[to] == kFar) return {};
  Path path{.nodes = {to}, .cost = cost[to]};
  do {
    path.nodes.push_back(came_from[path.nodes.back()]);
  } while (path.nodes.back() != from);
  std::reverse(path.nodes.begin(), path.nodes.end());
  return path;
}

// Of what could not be sorted only what leads back to itself is of interest: from anywhere in it, go on until
// a node comes again; then look for the shortest way round from some of the nodes passed.
std::vector<Index> Order::shortest_cycle() const {
  constexpr std::size_t kStarts = 64;
  std::vector<std::vector<Index>> back(node_count());  // a node that could not be sorted has one before it
  for (Index node = 0; node < node_count(); ++node) {
    if (!on_cycle_or_after_[node]) continue;
    for_each_next(node, [&](Index next, Index) {
      if (on_cycle_or_after_[next] && back[next].empty()) back[next].push_back(node);
    });
  }
  std::vector<bool> passed(node_count(), false);
  auto node = static_cast<Index>(std::find(on_cycle_or_after_.begin(), on_cycle_or_after_.end(), true) -
                                 on_cycle_or_after_.begin());
  while (!passed[node]) {
    passed[node] = true;
    node = back[node].front();
  }
  std::vector<Index> round_trip{node};
  while (back[round_trip.back()].front() != node) round_trip.push_back(back[round_trip.back()].front());
  Path best{.nodes = {}, .cost = kNone};
  const std::size_t stride = round_trip.size() / kStarts + 1;
  for (std::size_t i = 0; i < round_trip.size(); i += stride) {
    Path cycle = shortest_path(round_trip[i], round_trip[i], round_ + 1, best.cost,
                               [&](Index at) { return bool{on_cycle_or_after_[at]}; });
    if (!cycle.nodes.empty()) best = std::move(cycle);
  }
  return best.nodes;
}

// How `from` must come before `to`; `edge` if it is by the order of two clusters.
std::string Order::relation(Index from, Index to, Index edge, std::vector<std::uint32_t>& used) const {
  const Operation& first = resolved_.at(from);
  if (edge != kNone) {
    std::string what = first.writes() ? "was replaced, in the end, by" : "saw a value that was replaced by";
    if (edges_[edge].reason_from == kNone) return what;
    auto place = std::find(used.begin(), used.end(), edge);
    if (place == used.end()) place = used.insert(used.end(), edge);
    return fmt::format("{} (see {})", what, place - used.begin() + 1);
  }
  if (resolved_.at(to).reads() && resolved_.source(to) == from) {
    return resolved_.at(to).writes() ? "was replaced by" : "was seen by";
  }
  const bool same_client =
      !resolved_.is_first_value(from) && resolved_.client_of(from) == resolved_.client_of(to);
  if (same_client && to == from + 1) return "was followed by";
  return "saw the value that was replaced by";
}

// The path's operations, one a line, with how each leads to the next; a cluster's end is left out.
std::string Order::tell(const std::vector<Index>& path, std::uint32_t round,
                        std::vector<std::uint32_t>& used) const {
  std::string text;
  std::vector<Index> shown = path;
  if (is_end(shown.front()) && shown.front() == shown.back()) {  // a cycle: begin it elsewhere
    shown.pop_back();
    std::rotate(shown.begin(), shown.begin() + 1, shown.end());
    shown.push_back(shown.front());
  }
  Index last = kNone;
  for (std::size_t i = 0; i < shown.size(); ++i) {
    if (is_end(shown[i])) continue;
    if (last != kNone) {
      Index by = kNone;
      if (is_end(shown[i - 1])) {
        for_each_next(shown[i - 1], [&](Index next, Index edge) {
          if (next == shown[i] && edges_[edge].round < round) by = edge;
        });
      }
      const bool program_order = by == kNone && last < shown[i] && !resolved_.is_first_value(last) &&
                                 resolved_.client_of(last) == resolved_.client_of(shown[i]);
      // A run of one client's own operations is told by its ends.
      const bool goes_on = i + 1 < shown.size() && shown[i + 1] == shown[i] + 1 &&
                           resolved_.client_of(shown[i]) == resolved_.client_of(shown[i] + 1);
      if (program_order && goes_on) continue;
      text += fmt::format("      {}\n", program_order && shown[i] != last + 1
                                            ? "was followed, in program order, by"
                                            : relation(last, shown[i], by, used));
    }
    text += "  " + resolved_.text(shown[i]) + "\n";
    last = shown[i];
  }
  return text;
}

std::string Order::explain() const {
  std::vector<std::uint32_t> used;
  std::string text = "each of these must come before the next, and the last before the first:\n";
  text += tell(shortest_cycle(), round_ + 1, used);
  constexpr std::size_t kReasonsMax = 20;
  for (std::size_t i = 0; i < used.size() && i < kReasonsMax; ++i) {
    const ClusterEdge edge = edges_[used[i]];
    const Path path =
        shortest_path(edge.reason_from, edge.reason_to, edge.round, kNone, [](Index) { return true; });
    text += fmt::format("({}) because\n{}", i + 1, tell(path.nodes, edge.round, used));
  }
  if (used.size() > kReasonsMax) text += fmt::format("and {} reasons more\n", used.size() - kReasonsMax);
  return text;
}

}  // namespace pagewire::history
