// What the demo prints at its end: the verdict, the top words, and what each node did for it.
#include <fmt/format.h>

#include <iterator>

#include "tools/numbers.h"
#include "tools/word_count.h"

namespace pagewire::tools {

namespace {

using Out = std::back_insert_iterator<std::string>;

void add_verdict(Out out, const CountResult& result) {
  fmt::format_to(out, "{}: {} words, {} different ones, {} of text, {} nodes, {:.2f} s\n",
                 result.right ? "RIGHT" : "WRONG", grouped(result.word_count),
                 grouped(result.different_word_count), bytes_text(result.text_bytes), result.reports.size(),
                 static_cast<double>(result.elapsed_ns) * 1e-9);
  if (result.right) {
    fmt::format_to(out, "The shared table is what a count without Pagewire gave, word by word.\n");
    return;
  }
  fmt::format_to(out, "*** The shared table is NOT what a count without Pagewire gave. ***\n");
  for (const std::string& difference : result.differences) fmt::format_to(out, "***   {}\n", difference);
}

void add_fault_row(Out out, const std::string& node, const char* kind, const Latency& fault) {
  fmt::format_to(out, "{:>4}  {:<10} {:>10}", node, kind, grouped(fault.count));
  for (const std::uint64_t ns : {fault.p50_ns, fault.p90_ns, fault.p99_ns, fault.max_ns}) {
    fmt::format_to(out, " {:>10}", fault.count == 0 ? "-" : time_text(ns));
  }
  fmt::format_to(out, "\n");
}

}  // namespace

std::string text_of(const CountResult& result) {
  std::string text;
  const Out out(text);
  add_verdict(out, result);
  fmt::format_to(out, "\nThe ten top words\n");
  for (const auto& [word, count] : result.top_words)
    fmt::format_to(out, "{:>12}  {}\n", grouped(count), word);

  fmt::format_to(
      out, "\nFaults that needed another node, from the fault being heard of to the page being mapped\n");
  fmt::format_to(out, "{:>4}  {:<10} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "node", "fault", "count", "p50",
                 "p90", "p99", "max");
  for (std::size_t i = 0; i < result.reports.size(); ++i) {
    const NodeReport& report = result.reports[i];
    add_fault_row(out, fmt::format("{}", i), "read miss", report.read_miss);
    add_fault_row(out, "", "write miss", report.write_miss);
    add_fault_row(out, "", "upgrade", report.upgrade);
  }

  constexpr const char* kRow = "{:>4} {:>10} {:>13} {:>14} {:>10} {:>12} {:>12} {:>12}\n";
  fmt::format_to(out, "\n");
  fmt::format_to(out, kRow, "node", "words", "local faults", "messages sent", "repeats", "frames sent",
                 "multicast", "bytes sent");
  for (std::size_t i = 0; i < result.reports.size(); ++i) {
    const NodeReport& report = result.reports[i];
    fmt::format_to(out, kRow, i, grouped(report.word_count), grouped(report.local_count),
                   grouped(report.message_count), grouped(report.repeated_count), grouped(report.frame_count),
                   grouped(report.multicast_count), grouped(report.frame_bytes));
  }
  return text;
}

}  // namespace pagewire::tools
