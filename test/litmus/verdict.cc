// See verdict.h.
#include "test/litmus/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace pagewire::litmus {

namespace {

double seconds_of(const CaseResult& result) { return static_cast<double>(result.nanoseconds) * 1e-9; }

double per_thousand(std::uint64_t count, std::uint64_t total) {
  return total == 0 ? 0 : 1000.0 * static_cast<double>(count) / static_cast<double>(total);
}

// All lines of the histogram: what can be thought of, and what was seen besides.
std::set<Outcome> lines_of(const Judgement& judgement, const Histogram& histogram) {
  std::set<Outcome> outcomes = judgement.conceivable;
  for (const Line& line : histogram.lines()) outcomes.insert(line.outcome);
  return outcomes;
}

std::string weak_text(const Verdict& verdict) {
  if (verdict.weak_outcomes == 0) return "none to see";
  return verdict.weak_count == 0 ? "not seen" : fmt::format("seen {}x", verdict.weak_count);
}

std::string verdict_text(const Verdict& verdict) {
  return verdict.passed() ? "ok" : fmt::format("FORBIDDEN {}x", verdict.forbidden_count);
}

std::string name_of(const Case& one) {
  return fmt::format("{} {} {}", one.code().name, one.order_name(), one.layout_name());
}

}  // namespace

Verdict verdict_of(const Judgement& judgement, const Histogram& histogram) {
  Verdict verdict;
  for (const Outcome& outcome : lines_of(judgement, histogram)) {
    const std::uint64_t count = histogram.count(outcome);
    const bool seen = count > 0;
    if (!judgement.sequentially_consistent.contains(outcome)) verdict.strange_count += count;
    if (!judgement.allowed(outcome)) {
      verdict.forbidden_count += count;
      continue;
    }
    ++verdict.allowed_outcomes;
    verdict.seen_outcomes += seen ? 1 : 0;
    if (!judgement.weak(outcome)) continue;
    ++verdict.weak_outcomes;
    verdict.seen_weak_outcomes += seen ? 1 : 0;
    verdict.weak_count += count;
  }
  verdict.forbidden_count += histogram.overflow();
  verdict.strange_count += histogram.overflow();
  return verdict;
}

std::string histogram_text(const CaseReport& report, const Judgement& judgement) {
  const Shape& shape = report.one.code();
  const CaseResult& result = report.result;
  const Verdict verdict = verdict_of(judgement, result.histogram);
  std::string text = fmt::format(
      "{}: {}\n  {} iterations in {} batches, {:.1f} s, {:.1f} page faults per 1,000 iterations\n",
      name_of(report.one), shape.about, result.histogram.total(), result.batch_count, seconds_of(result),
      per_thousand(result.fault_count, result.histogram.total()));
  text += fmt::format("  {:<24}{:>12}  {:<10}{}\n", "outcome", "count", "C++20", "sequentially consistent");
  for (const Outcome& outcome : lines_of(judgement, result.histogram)) {
    const std::uint64_t count = result.histogram.count(outcome);
    const bool allowed = judgement.allowed(outcome);
    text += fmt::format("{} {:<24}{:>12}  {:<10}{}\n", !allowed && count > 0 ? '!' : ' ',
                        to_text(shape, outcome), count, allowed ? "allows" : "forbids",
                        judgement.sequentially_consistent.contains(outcome) ? "yes" : "no");
  }
  for (const Line& line : result.histogram.lines()) {
    if (judgement.allowed(line.outcome)) continue;
    text += fmt::format("  forbidden {} was seen first in batch {}, instance {}\n",
                        to_text(shape, line.outcome), line.first_batch, line.first_instance);
  }
  if (result.histogram.overflow() > 0) {
    text +=
        fmt::format("  and {} more outcomes with values that nobody stored\n", result.histogram.overflow());
  }
  text += fmt::format("  weak outcomes that C++ allows: {}; verdict: {}\n", weak_text(verdict),
                      verdict_text(verdict));
  return text;
}

std::string summary_text(const std::vector<CaseReport>& reports) {
  std::string text =
      fmt::format("{:<6}{:<9}{:<10}{:>12}{:>9}{:>14}{:>10}  {:<16}{}\n", "test", "order", "layout",
                  "iterations", "seconds", "faults/1,000", "outcomes", "weak outcomes", "verdict");
  std::uint64_t iterations = 0;
  std::uint64_t forbidden = 0;
  std::uint64_t weak_cases = 0;
  std::uint64_t weak_seen = 0;
  std::uint64_t strange = 0;
  double seconds = 0;
  for (const CaseReport& report : reports) {
    const CaseResult& result = report.result;
    const Verdict verdict = verdict_of(judge(report.one.code(), report.one.order), result.histogram);
    text += fmt::format("{:<6}{:<9}{:<10}{:>12}{:>9.2f}{:>14.1f}{:>10}  {:<16}{}\n", report.one.code().name,
                        report.one.order_name(), report.one.layout_name(), result.histogram.total(),
                        seconds_of(result), per_thousand(result.fault_count, result.histogram.total()),
                        fmt::format("{} of {}", verdict.seen_outcomes, verdict.allowed_outcomes),
                        weak_text(verdict), verdict_text(verdict));
    iterations += result.histogram.total();
    seconds += seconds_of(result);
    forbidden += verdict.forbidden_count;
    weak_cases += verdict.weak_outcomes > 0 ? 1 : 0;
    weak_seen += verdict.weak_count > 0 ? 1 : 0;
    strange += verdict.strange_count;
  }
  text += fmt::format(
      "{} cases, {} iterations in {:.1f} s; {} of them had an outcome that C++ forbids, {} one that is not "
      "sequentially "
      "consistent. Weak outcomes that C++ allows: seen in {} of the {} cases that have one.\n",
      reports.size(), iterations, seconds, forbidden, strange, weak_seen, weak_cases);
  return text;
}

bool all_passed(const std::vector<CaseReport>& reports) {
  return std::all_of(reports.begin(), reports.end(), [](const CaseReport& report) {
    return verdict_of(judge(report.one.code(), report.one.order), report.result.histogram).passed();
  });
}

nlohmann::json to_json(const CampaignOptions& options, const std::vector<CaseReport>& reports) {
  nlohmann::json cases = nlohmann::json::array();
  for (const CaseReport& report : reports) {
    const CaseResult& result = report.result;
    const Judgement judgement = judge(report.one.code(), report.one.order);
    const Verdict verdict = verdict_of(judgement, result.histogram);
    nlohmann::json outcomes = nlohmann::json::array();
    for (const Outcome& outcome : lines_of(judgement, result.histogram)) {
      outcomes.push_back({{"outcome", to_text(report.one.code(), outcome)},
                          {"count", result.histogram.count(outcome)},
                          {"cpp_allows", judgement.allowed(outcome)},
                          {"sequentially_consistent", judgement.sequentially_consistent.contains(outcome)}});
    }
    cases.push_back({{"test", report.one.code().name},
                     {"order", report.one.order_name()},
                     {"layout", report.one.layout_name()},
                     {"iterations", result.histogram.total()},
                     {"batches", result.batch_count},
                     {"seconds", seconds_of(result)},
                     {"faults", result.fault_count},
                     {"forbidden", verdict.forbidden_count},
                     {"weak_outcomes", verdict.weak_outcomes},
                     {"weak_outcomes_seen", verdict.seen_weak_outcomes},
                     {"weak_count", verdict.weak_count},
                     {"outcomes", outcomes}});
  }
  return {{"seed", options.seed},
          {"memory", kMemoryNames[static_cast<std::size_t>(options.memory)]},
          {"cases", cases}};
}

}  // namespace pagewire::litmus
