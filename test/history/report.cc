#include "test/history/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>

namespace pagewire::history {

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

std::string row(const std::string& name, const std::string& value) {
  return fmt::format("  {:<26} {}\n", name, value);
}

struct Counts {
  std::uint64_t by_kind[5] = {};
  std::int64_t from_ns = std::numeric_limits<std::int64_t>::max();
  std::int64_t to_ns = std::numeric_limits<std::int64_t>::min();
};

Counts count(const History& history) {
  Counts counts;
  for (const auto& list : history.clients) {
    for (const Operation& operation : list) {
      ++counts.by_kind[static_cast<std::size_t>(operation.kind)];
      counts.from_ns = std::min(counts.from_ns, operation.invoked_ns);
      counts.to_ns = std::max(counts.to_ns, operation.responded_ns);
    }
  }
  return counts;
}

std::string describe_run(const KeptHistory& kept, const Resolved& resolved) {
  const Counts counts = count(kept.history);
  const auto operations = static_cast<double>(resolved.operation_count());
  const double seconds = operations > 0 ? static_cast<double>(counts.to_ns - counts.from_ns) / 1e9 : 0;
  const auto transfers = kept.total("page_transfers");
  return row("seed", fmt::format("{}, {} % of frames lost", kept.fact("seed"),
                                 static_cast<double>(kept.fact("lost_per_mille")) / 10)) +
         row("clients", fmt::format("{} on {} nodes", resolved.client_count(), kept.fact("nodes"))) +
         row("operations", fmt::format("{} in {:.1f} s, {:.0f} a second", resolved.operation_count(), seconds,
                                       seconds > 0 ? operations / seconds : 0)) +
         row("", fmt::format("{} reads, {} writes, {} exchanges, {} compare-exchanges ({} of them failed)",
                             counts.by_kind[0], counts.by_kind[1], counts.by_kind[2],
                             counts.by_kind[3] + counts.by_kind[4], counts.by_kind[4])) +
         row("words, pages", fmt::format("{}, {}", kept.fact("words"), kept.fact("pages"))) +
         row("page transfers",
             fmt::format("{}, one to {:.1f} operations; and {} upgrades; {} frames sent", transfers,
                         transfers > 0 ? operations / static_cast<double>(transfers) : 0,
                         kept.total("upgrades"), kept.total("sent_frames"))) +
         row("reads-from edges", std::to_string(resolved.reads_from_count())) +
         row("real-time pairs", std::to_string(count_real_time_pairs(resolved)));
}

}  // namespace

Judgement judge(const KeptHistory& kept) {
  Judgement judgement;
  auto begin = std::chrono::steady_clock::now();
  const Resolved resolved(kept.history);
  judgement.linearizable = check_linearizable(resolved);
  const double clock_seconds = seconds_since(begin);
  begin = std::chrono::steady_clock::now();
  judgement.sequential = check_sequential(resolved);
  const double order_seconds = seconds_since(begin);
  const SequentialConsistency& order = judgement.sequential;

  judgement.table =
      describe_run(kept, resolved) +
      row("orders of writes derived",
          fmt::format("{} in {} rounds; {} choices left, {} dead ends", order.cluster_edges, order.rounds,
                      order.choices, order.dead_ends)) +
      row("sequential consistency", fmt::format("{}  ({:.2f} s)", name_of(order.verdict), order_seconds)) +
      row("per-word linearizability",
          fmt::format("{}  ({:.2f} s)", name_of(judgement.linearizable.verdict), clock_seconds));
  if (order.verdict != Verdict::kHolds) {
    judgement.explanations +=
        fmt::format("sequential consistency {}: {}", name_of(order.verdict), order.explanation);
  }
  if (judgement.linearizable.verdict != Verdict::kHolds) {
    judgement.explanations += "per-word linearizability VIOLATED: " + judgement.linearizable.explanation;
  }
  return judgement;
}

}  // namespace pagewire::history
