#include "test/history/sequential.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_set>

#include "test/history/order.h"

namespace pagewire::history {

namespace {

// Where each client stands: how many of its operations are in the order.
using Place = std::vector<std::uint32_t>;
struct PlaceHash {
  std::size_t operator()(const Place& place) const {
    std::uint64_t hash = 0;
    for (const std::uint32_t at : place) hash = (hash ^ at) * 0x9e3779b97f4a7c15ULL + (hash >> 29);
    return hash;
  }
};

class Search {
 public:
  Search(const Resolved& resolved, std::vector<std::vector<std::uint32_t>> cluster_predecessors);

  Verdict run(std::uint64_t dead_ends_max, SequentialConsistency& result);
  std::string explain() const;

 private:
  struct Step {
    std::uint32_t client = 0;
    bool had_choice = false;
    std::uint32_t tried = 0;  // of the alternatives at the place before it, how many came before this one
  };

  bool has_next(std::uint32_t client) const {
    return resolved_.first_of(client) + place_[client] < resolved_.first_of(client + 1);
  }
  Index next(std::uint32_t client) const { return resolved_.first_of(client) + place_[client]; }
  bool is_done(Index node) const {
    return resolved_.is_first_value(node) ||
           node - resolved_.first_of(resolved_.client_of(node)) < place_[resolved_.client_of(node)];
  }
  bool is_possible(Index operation) const;
  bool is_safe(Index operation) const;
  void take(std::uint32_t client);
  void take_back(std::uint32_t client);
  std::vector<std::uint32_t> alternatives() const;
  bool take_safe_steps();
  bool take_back_to_a_choice();

  const Resolved& resolved_;
  const std::vector<std::vector<std::uint32_t>> cluster_predecessors_;
  Place place_;
  std::vector<std::uint32_t> left_in_cluster_;
  std::vector<std::uint32_t> readers_left_;    // by write
  std::vector<std::uint32_t> open_cluster_;    // by word; kNone: any may begin
  std::vector<std::int64_t> begins_about_ns_;  // by cluster
  std::vector<Step> steps_;
  std::unordered_set<Place, PlaceHash> dead_ends_;
  Place furthest_;
  std::size_t furthest_steps_ = 0;
};

Search::Search(const Resolved& resolved, std::vector<std::vector<std::uint32_t>> cluster_predecessors)
    : resolved_(resolved),
      cluster_predecessors_(std::move(cluster_predecessors)),
      place_(resolved.client_count(), 0),
      readers_left_(resolved.node_count()),
      open_cluster_(resolved.word_count(), kNone),
      begins_about_ns_(resolved.clusters().size(), std::numeric_limits<std::int64_t>::max()),
      furthest_(place_) {
  for (const Cluster& cluster : resolved.clusters()) left_in_cluster_.push_back(cluster.count);
  for (std::uint32_t word = 0; word < resolved.word_count(); ++word) {
    if (left_in_cluster_[word] > 0) open_cluster_[word] = word;
  }
  for (Index node = 0; node < resolved.node_count(); ++node) {
    if (resolved.at(node).writes())
      readers_left_[node] = static_cast<std::uint32_t>(resolved.readers(node).size());
    std::int64_t& about = begins_about_ns_[resolved.cluster_of(node)];
    about = std::min(about, resolved.at(node).responded_ns);
  }
}

bool Search::is_possible(Index operation) const {
  if (resolved_.at(operation).reads()) {
    const Index source = resolved_.source(operation);
    return is_done(source) && (!resolved_.at(operation).writes() || readers_left_[source] == 0);
  }
  const std::uint32_t cluster = resolved_.cluster_of(operation);
  const auto& before = cluster_predecessors_[cluster];
  return open_cluster_[resolved_.clusters()[cluster].word] == kNone &&
         std::all_of(before.begin(), before.end(),
                     [&](std::uint32_t one) { return left_in_cluster_[one] == 0; });
}

// Whether a possible operation may as well be done now: nothing that others may still do can tell.
bool Search::is_safe(Index operation) const {
  return resolved_.at(operation).reads() || left_in_cluster_[resolved_.cluster_of(operation)] == 1;
}

void Search::take(std::uint32_t client) {
  const Index operation = next(client);
  ++place_[client];
  const std::uint32_t cluster = resolved_.cluster_of(operation);
  if (!resolved_.at(operation).writes()) --readers_left_[resolved_.source(operation)];
  open_cluster_[resolved_.at(operation).word] = --left_in_cluster_[cluster] == 0 ? kNone : cluster;
}

void Search::take_back(std::uint32_t client) {
  --place_[client];
  const Index operation = next(client);
  const std::uint32_t cluster = resolved_.cluster_of(operation);
  ++left_in_cluster_[cluster];
  if (!resolved_.at(operation).writes()) ++readers_left_[resolved_.source(operation)];
  open_cluster_[resolved_.at(operation).word] = resolved_.at(operation).reads() ? cluster : kNone;
}

// Clients whose next operation is possible, the likeliest first.
std::vector<std::uint32_t> Search::alternatives() const {
  std::vector<std::uint32_t> clients;
  for (std::uint32_t client = 0; client < place_.size(); ++client) {
    if (has_next(client) && is_possible(next(client))) clients.push_back(client);
  }
  const auto about = [&](std::uint32_t client) {
    return begins_about_ns_[resolved_.cluster_of(next(client))];
  };
  std::stable_sort(clients.begin(), clients.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return about(a) < about(b); });
  return clients;
}

// Until there is none. True if that was the end of the history.
bool Search::take_safe_steps() {
  bool any = true;
  while (any) {
    any = false;
    for (std::uint32_t client = 0; client < place_.size(); ++client) {
      while (has_next(client) && is_possible(next(client)) && is_safe(next(client))) {
        steps_.push_back({.client = client});
        take(client);
        any = true;
      }
    }
  }
  if (steps_.size() >= furthest_steps_) {
    furthest_steps_ = steps_.size();
    furthest_ = place_;
  }
  return steps_.size() == resolved_.operation_count();
}

// Undoes steps up to and with the last one that had an untried alternative, and takes that. False: none left.
bool Search::take_back_to_a_choice() {
  while (!steps_.empty()) {
    const Step step = steps_.back();
    steps_.pop_back();
    take_back(step.client);
    if (!step.had_choice) continue;
    const auto clients = alternatives();
    if (step.tried + 1 < clients.size()) {
      steps_.push_back({.client = clients[step.tried + 1], .had_choice = true, .tried = step.tried + 1});
      take(clients[step.tried + 1]);
      return true;
    }
    dead_ends_.insert(place_);
  }
  return false;
}

Verdict Search::run(std::uint64_t dead_ends_max, SequentialConsistency& result) {
  for (;;) {
    if (take_safe_steps()) {
      Place at(place_.size(), 0);
      for (const Step& step : steps_) {
        result.order.push_back(resolved_.first_of(step.client) + at[step.client]++);
      }
      result.dead_ends = dead_ends_.size();
      return Verdict::kHolds;
    }
    const auto clients = alternatives();
    if (!clients.empty() && !dead_ends_.contains(place_)) {
      if (clients.size() > 1) ++result.choices;
      steps_.push_back({.client = clients.front(), .had_choice = true});
      take(clients.front());
      continue;
    }
    if (!take_back_to_a_choice()) {
      result.dead_ends = dead_ends_.size();
      return Verdict::kViolated;
    }
    if (dead_ends_.size() > dead_ends_max) {
      result.dead_ends = dead_ends_.size();
      return Verdict::kUndecided;
    }
  }
}

std::string Search::explain() const {
  std::string text = "no order explains it. The longest beginning that was found stops before\n";
  for (std::uint32_t client = 0; client < furthest_.size(); ++client) {
    const Index at = resolved_.first_of(client) + furthest_[client];
    if (at < resolved_.first_of(client + 1)) text += "  " + resolved_.text(at) + "\n";
  }
  return text;
}

}  // namespace

bool replays(const Resolved& resolved, const std::vector<Index>& order) {
  std::vector<Value> memory(resolved.word_count(), kInitialValue);
  Place place(resolved.client_count(), 0);
  for (const Index index : order) {
    if (index >= resolved.operation_count()) return false;
    const Operation& operation = resolved.at(index);
    const std::uint32_t client = resolved.client_of(index);
    if (index != resolved.first_of(client) + place[client]++) return false;
    if (operation.reads() && memory[operation.word] != operation.read) return false;
    if (operation.writes()) memory[operation.word] = operation.written;
  }
  return order.size() == resolved.operation_count();
}

SequentialConsistency check_sequential(const Resolved& resolved, const Effort& effort) {
  SequentialConsistency result;
  if (!resolved.violation().empty()) {
    result.verdict = Verdict::kViolated;
    result.explanation = resolved.violation();
    return result;
  }
  Order order(resolved);
  const bool acyclic = !effort.derive || order.derive();
  result.cluster_edges = order.edges().size();
  result.rounds = order.rounds();
  if (!acyclic) {
    result.verdict = Verdict::kViolated;
    result.explanation = order.explain();
    return result;
  }
  Search search(resolved, order.cluster_predecessors());
  result.verdict = search.run(effort.dead_ends_max, result);
  if (result.verdict == Verdict::kViolated) result.explanation = search.explain();
  if (result.verdict == Verdict::kUndecided) {
    result.explanation =
        fmt::format("given up after {} dead ends; a shorter history may be decided\n", result.dead_ends);
  }
  if (result.verdict == Verdict::kHolds && !replays(resolved, result.order)) {
    throw std::logic_error("the order that was found does not explain the history: the checker is wrong");
  }
  return result;
}

}  // namespace pagewire::history
