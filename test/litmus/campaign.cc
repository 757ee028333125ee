// See campaign.h.
#include "test/litmus/campaign.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "test/e2e/cluster.h"
#include "test/litmus/scaffold.h"

namespace pagewire::litmus {

namespace {

std::string text_of(const std::vector<Case>& cases) {
  std::string text;
  for (const Case& one : cases) {
    text += fmt::format("{}{}:{}:{}", text.empty() ? "" : ",", one.code().name, one.order_name(),
                        one.layout_name());
  }
  return text;
}

[[noreturn]] void fail(e2e::Cluster& cluster) {
  constexpr int kSecondsToEnd =
      Barrier::kPatienceSeconds + 10;  // a node that waits for another says so by then
  std::string message = "a run failed";
  const std::vector<e2e::Finished> nodes = cluster.finish_all(kSecondsToEnd);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    message += fmt::format("\nnode {}, exit code {}: {}", i, nodes[i].exit_code, nodes[i].output);
  }
  throw std::runtime_error(message);
}

// Until node 0 has reported the case. A node that is stuck or gone makes the others end at their barrier.
void wait_for_case(e2e::Cluster& cluster, const std::string& key, const std::atomic<bool>* interrupted) {
  using Clock = std::chrono::steady_clock;
  constexpr int kTurnSeconds = 1;
  for (;;) {
    const Clock::time_point began = Clock::now();
    if (cluster.wait_for(0, key, kTurnSeconds)) return;
    if (interrupted != nullptr && interrupted->load()) throw std::runtime_error("interrupted");
    if (Clock::now() - began < std::chrono::milliseconds(kTurnSeconds * 500))
      fail(cluster);  // node 0 has ended
  }
}

// The cases of one number of threads, in one cluster.
void run_group(const CampaignOptions& options, const std::vector<Case>& cases,
               const std::function<void(const CaseReport&)>& done, const std::atomic<bool>* interrupted) {
  std::vector<std::string> flags = {
      "--cases",      text_of(cases),
      "--iterations", std::to_string(options.iterations),
      "--seconds",    fmt::format("{}", options.seconds),
      "--seed",       std::to_string(options.seed),
      "--memory",     std::string(kMemoryNames[static_cast<std::size_t>(options.memory)])};
  flags.insert(flags.end(), options.node_flags.begin(), options.node_flags.end());
  e2e::Cluster cluster(kNodeCommand, static_cast<std::uint32_t>(cases.front().code().thread_count), flags);
  const SharedScaffold scaffold(cluster.folder());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    wait_for_case(cluster, fmt::format("case{}", i), interrupted);
    done(CaseReport{.one = cases[i], .result = scaffold->results[i]});
  }
  constexpr int kSecondsToLeave = 20;
  for (const e2e::Finished& node : cluster.finish_all(kSecondsToLeave)) {
    if (node.exit_code != 0) throw std::runtime_error("a node failed when it left: " + node.output);
  }
}

}  // namespace

std::vector<CaseReport> run_cases(const CampaignOptions& options,
                                  const std::function<void(const CaseReport&)>& done,
                                  const std::atomic<bool>* interrupted) {
  std::vector<CaseReport> reports(options.cases.size());
  for (std::size_t threads = 1; threads <= kThreadsMax; ++threads) {
    std::vector<Case> group;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < options.cases.size(); ++i) {
      if (options.cases[i].code().thread_count != threads) continue;
      group.push_back(options.cases[i]);
      places.push_back(i);
    }
    if (group.empty()) continue;
    std::size_t next = 0;
    const auto note = [&](const CaseReport& report) {
      reports[places[next++]] = report;
      done(report);
    };
    run_group(options, group, note, interrupted);
  }
  return reports;
}

}  // namespace pagewire::litmus
