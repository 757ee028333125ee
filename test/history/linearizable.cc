#include "test/history/linearizable.h"

#include <algorithm>
#include <optional>

namespace pagewire::history {

namespace {

constexpr std::int64_t kLongAgo = std::numeric_limits<std::int64_t>::min();

struct Zone {
  std::uint32_t word = 0;
  Index first_response = kNone;   // the operation that responded first
  Index last_invocation = kNone;  // the operation that was invoked last
  std::int64_t from_ns = 0;       // when the former responded
  std::int64_t to_ns = 0;         // when the latter was invoked
};

// Walks a cluster in its order: each write, who read it, who replaced it. Finds its zone; or the pair that
// contradicts that order, as text.
std::optional<std::string> measure(const Resolved& resolved, const Cluster& cluster, Zone& zone) {
  zone = {.word = cluster.word, .from_ns = std::numeric_limits<std::int64_t>::max(), .to_ns = kLongAgo};
  Index latest = kNone;  // invoked last among all writes so far and the readers before the present write
  std::optional<std::string> wrong;
  const auto take = [&](Index node) {
    const Operation& operation = resolved.at(node);
    if (!wrong && latest != kNone && operation.responded_ns < resolved.at(latest).invoked_ns) {
      wrong =
          "the first must come before the second, by what they read, but had not begun when that ended:\n  " +
          resolved.text(latest) + "\n  " + resolved.text(node) + "\n";
    }
    if (operation.responded_ns < zone.from_ns || zone.first_response == kNone) {
      zone.from_ns = operation.responded_ns;
      zone.first_response = node;
    }
    if (operation.invoked_ns > zone.to_ns || zone.last_invocation == kNone) {
      zone.to_ns = operation.invoked_ns;
      zone.last_invocation = node;
    }
  };
  const auto note = [&](Index node) {
    if (latest == kNone || resolved.at(node).invoked_ns > resolved.at(latest).invoked_ns) latest = node;
  };
  for (Index write = cluster.head; write != kNone; write = resolved.replacer(write)) {
    take(write);
    note(write);
    for (const Index reader : resolved.readers(write)) take(reader);
    for (const Index reader : resolved.readers(write)) note(reader);
  }
  return wrong;
}

std::string contradiction(const Resolved& resolved, const Zone& a, const Zone& b) {
  const auto side = [&](const Zone& earlier, const Zone& later) {
    return "  " + resolved.text(earlier.first_response) + "\n    had ended before this began:\n  " +
           resolved.text(later.last_invocation) + "\n";
  };
  return "of two values of a word (with what replaced them) either would have to be older than the other:\n" +
         side(a, b) + "  and\n" + side(b, a);
}

// Two zones contradict each other if a.from < b.to and b.from < a.to; one of them at least is forward then.
std::optional<std::string> find_contradiction(const Resolved& resolved, std::vector<Zone>& zones) {
  std::sort(zones.begin(), zones.end(), [](const Zone& a, const Zone& b) {
    return std::pair(a.word, a.from_ns) < std::pair(b.word, b.from_ns);
  });
  const Zone* reach = nullptr;  // of the word's forward zones so far, the one that ends last
  std::vector<const Zone*> reach_before(zones.size(), nullptr);
  for (std::size_t i = 0; i < zones.size(); ++i) {
    const Zone& zone = zones[i];
    if (reach != nullptr && reach->word != zone.word) reach = nullptr;
    reach_before[i] = reach;
    if (zone.from_ns >= zone.to_ns) continue;
    if (reach != nullptr && zone.from_ns < reach->to_ns) return contradiction(resolved, *reach, zone);
    if (reach == nullptr || zone.to_ns > reach->to_ns) reach = &zone;
  }
  // A backward zone [to, from] lies within a forward one that began before `to` and ends after `from`.
  for (const Zone& zone : zones) {
    if (zone.from_ns < zone.to_ns) continue;
    const auto place = std::lower_bound(zones.begin(), zones.end(), zone, [](const Zone& a, const Zone& b) {
      return std::pair(a.word, a.from_ns) < std::pair(b.word, b.to_ns);
    });
    // Before `place`: the zones of lower words, and those of this word that begin before `to`.
    if (place == zones.begin()) continue;
    const Zone& last = *(place - 1);
    if (last.word != zone.word) continue;
    const Zone* longest = reach_before[static_cast<std::size_t>(place - 1 - zones.begin())];
    if (last.from_ns < last.to_ns && (longest == nullptr || last.to_ns > longest->to_ns)) longest = &last;
    if (longest != nullptr && zone.from_ns < longest->to_ns) return contradiction(resolved, *longest, zone);
  }
  return std::nullopt;
}

}  // namespace

Linearizability check_linearizable(const Resolved& resolved) {
  if (!resolved.violation().empty()) return {Verdict::kViolated, resolved.violation()};
  std::vector<Zone> zones;
  for (const Cluster& cluster : resolved.clusters()) {
    Zone zone;
    if (const auto wrong = measure(resolved, cluster, zone)) return {Verdict::kViolated, *wrong};
    zones.push_back(zone);
  }
  if (const auto wrong = find_contradiction(resolved, zones)) return {Verdict::kViolated, *wrong};
  return {};
}

std::uint64_t count_real_time_pairs(const Resolved& resolved) {
  struct Ends {
    std::vector<std::int64_t> responded, invoked;
  };
  const std::uint32_t clients = resolved.client_count();
  // By word, then all clients together and each alone: pairs of one client are taken off again.
  std::vector<Ends> ends(std::size_t{resolved.word_count()} * (clients + 1));
  for (Index i = 0; i < resolved.operation_count(); ++i) {
    const Operation& operation = resolved.at(i);
    for (const std::uint32_t group : {std::uint32_t{0}, resolved.client_of(i) + 1}) {
      Ends& of = ends[std::size_t{operation.word} * (clients + 1) + group];
      of.responded.push_back(operation.responded_ns);
      of.invoked.push_back(operation.invoked_ns);
    }
  }
  std::uint64_t total = 0;
  for (std::size_t group = 0; group < ends.size(); ++group) {
    Ends& of = ends[group];
    std::sort(of.responded.begin(), of.responded.end());
    std::sort(of.invoked.begin(), of.invoked.end());
    std::uint64_t pairs = 0;
    std::size_t ended = 0;
    for (const std::int64_t invoked : of.invoked) {
      while (ended < of.responded.size() && of.responded[ended] < invoked) ++ended;
      pairs += ended;
    }
    total = group % (clients + 1) == 0 ? total + pairs : total - pairs;
  }
  return total;
}

}  // namespace pagewire::history
