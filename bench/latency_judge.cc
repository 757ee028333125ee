// The bars one by one; see latency_judge.h.
#include "bench/latency_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace pagewire::bench {

namespace {

constexpr std::array<std::string_view, 5> kFaults = {"read_miss", "read_miss_downgrade", "write_miss",
                                                     "upgrade_1", "upgrade_2"};

bool is_fault(const Figure& figure) { return std::ranges::find(kFaults, figure.name) != kFaults.end(); }

bool is(const Figure& figure, Delivery delivery) {
  return figure.setting && figure.setting->delivery == delivery;
}

class Judgement {
 public:
  void bar(const std::string& title) { text_ += title + "\n"; }
  void line(const Figure& figure, const std::string& seen, const std::string& bar, bool met) {
    text_ += fmt::format("  {:<7} {:<20} {:<7} {:<9} {}; bar {}\n", met ? "met" : "NOT MET", figure.name,
                         name_of(figure.setting->delivery), name_of(figure.setting->loops), seen, bar);
    ++(met ? met_ : missed_);
    any_ = true;
  }
  void end_of_bar() {
    if (!std::exchange(any_, false)) text_ += "  not measured in this run\n";
  }
  std::string text() const { return text_ + fmt::format("{} met, {} not met\n", met_, missed_); }

 private:
  std::string text_;
  bool any_ = false;
  std::size_t met_ = 0;
  std::size_t missed_ = 0;
};

std::string p50_text(const Figure& figure) { return "p50 " + microseconds(figure.times.p50_ns) + " µs"; }

void judge_ratio(Judgement& judgement, const Figure& figure, double factor, std::uint64_t more_ns,
                 const std::string& more) {
  const double bar_ns = factor * static_cast<double>(figure.floor_p50_ns) + static_cast<double>(more_ns);
  judgement.line(figure, p50_text(figure) + fmt::format(", {:.2f} × its floor", figure.ratio()),
                 fmt::format("{:.2f} µs = {:.2f} × {} {} µs{}", bar_ns / 1'000, factor, figure.floor,
                             microseconds(figure.floor_p50_ns), more),
                 static_cast<double>(figure.times.p50_ns) <= bar_ns);
}

void judge_inline(Judgement& judgement, const Report& report) {
  const auto self = [](const Figure& figure) {
    return is(figure, Delivery::kInline) && figure.setting->loops == LoopKind::kSelf;
  };
  judgement.bar("inline, self-driven: a read miss within 1.25 × the bare remote fault");
  for (const Figure& figure : report.figures) {
    if (self(figure) && figure.name.starts_with("read_miss")) judge_ratio(judgement, figure, 1.25, 0, "");
  }
  judgement.end_of_bar();
  judgement.bar(
      "inline, self-driven: upgrade and write miss within 1.5 × the bare remote fault and a shootdown");
  for (const Figure& figure : report.figures) {
    if (!self(figure) || !figure.shootdown_p50_ns) continue;
    judge_ratio(judgement, figure, 1.5, *figure.shootdown_p50_ns,
                " + a shootdown of " + microseconds(*figure.shootdown_p50_ns) + " µs");
  }
  judgement.end_of_bar();
}

void judge_thread(Judgement& judgement, const Report& report) {
  judgement.bar(
      "thread delivery: within 1.3 × the best local thread-handled fault and the port's round trip");
  for (const Figure& figure : report.figures) {
    if (is(figure, Delivery::kThread) && is_fault(figure)) judge_ratio(judgement, figure, 1.3, 0, "");
  }
  judgement.end_of_bar();
}

void judge_tail(Judgement& judgement, const Report& report) {
  judgement.bar("faults: p99 within 5 × p50");
  for (const Figure& figure : report.figures) {
    if (!figure.setting || !is_fault(figure)) continue;
    judgement.line(figure, "p99 " + microseconds(figure.times.p99_ns) + " µs",
                   microseconds(5 * figure.times.p50_ns) + " µs = 5 × " + p50_text(figure),
                   figure.times.p99_ns <= 5 * figure.times.p50_ns);
  }
  judgement.end_of_bar();
}

void judge_scans(Judgement& judgement, const Report& report) {
  judgement.bar("sequential read: 1 GB/s by the stride detector alone, 1.5 GB/s with prefetch");
  for (const Figure& figure : report.figures) {
    if (!figure.gb_per_s) continue;
    const double bar = figure.name == "scan_prefetch" ? 1.5 : 1.0;
    judgement.line(figure, fmt::format("{:.2f} GB/s", *figure.gb_per_s), fmt::format("{:.1f} GB/s", bar),
                   *figure.gb_per_s >= bar);
  }
  judgement.end_of_bar();
}

void judge_ping_pong(Judgement& judgement, const Report& report) {
  constexpr double kHandOversPerS = 50'000;
  constexpr std::uint64_t kWaitNs = 10'000'000;
  judgement.bar("ping-pong: 50,000 hand-overs/s, and neither side ever waits more than 10 ms");
  for (const Figure& figure : report.figures) {
    if (figure.name != "ping_pong" || !figure.hand_overs_per_s) continue;
    judgement.line(figure,
                   fmt::format("{:.0f} hand-overs/s, longest wait {} µs", *figure.hand_overs_per_s,
                               microseconds(*figure.longest_wait_ns)),
                   "50000 hand-overs/s, 10000 µs",
                   *figure.hand_overs_per_s >= kHandOversPerS && *figure.longest_wait_ns <= kWaitNs);
  }
  judgement.end_of_bar();
}

void judge_rest(Judgement& judgement, const Report& report) {
  judgement.bar("at rest: below 1 % of a core");
  for (const Figure& figure : report.figures) {
    if (!figure.idle_cpu_share || figure.rest_ms.value_or(0) < 1'000) continue;
    judgement.line(figure, fmt::format("{:.2f} %", 100 * *figure.idle_cpu_share), "1 %",
                   *figure.idle_cpu_share < 0.01);
  }
  judgement.end_of_bar();
}

}  // namespace

std::string judgement_of(const Report& report) {
  Judgement judgement;
  judge_inline(judgement, report);
  judge_thread(judgement, report);
  judge_tail(judgement, report);
  judge_scans(judgement, report);
  judge_ping_pong(judgement, report);
  judge_rest(judgement, report);
  judgement.bar("not judged by this bench: many threads on few cores, and the soak");
  return judgement.text();
}

}  // namespace pagewire::bench
