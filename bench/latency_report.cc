// Table and JSON; see latency_report.h.
#include "bench/latency_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

namespace pagewire::bench {

namespace {

using OrderedJson = nlohmann::ordered_json;

std::string title_of(const Figure& figure) {
  return figure.rest_ms ? fmt::format("{}, {} ms", figure.name, *figure.rest_ms) : figure.name;
}

// What else the case has.
std::string extras_of(const Figure& figure) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (figure.gb_per_s) add(fmt::format("{:.2f} GB/s", *figure.gb_per_s));
  if (figure.hand_overs_per_s) add(fmt::format("{:.0f} hand-overs/s", *figure.hand_overs_per_s));
  if (figure.longest_wait_ns) add(fmt::format("longest wait {} µs", microseconds(*figure.longest_wait_ns)));
  if (figure.stores_per_s) {
    add(fmt::format("{:.1f} and {:.1f} M stores/s", figure.stores_per_s->at(0) / 1e6,
                    figure.stores_per_s->at(1) / 1e6));
  }
  if (figure.shootdown_p50_ns) add(fmt::format("shootdown {} µs", microseconds(*figure.shootdown_p50_ns)));
  if (figure.idle_cpu_share) add(fmt::format("{:.1f} % of a core at rest", 100 * *figure.idle_cpu_share));
  if (figure.dropped_chunks > 0) add(fmt::format("{} chunks dropped", figure.dropped_chunks));
  return text;
}

// A line for each case and kind of fault; the medians alone, the rest is in the JSON.
std::string phases_text(const Report& report) {
  std::vector<std::string> names;
  for (const Figure& figure : report.figures) {
    for (const Json& phase : figure.phases) {
      const std::string name = phase.at("phase");
      if (std::ranges::find(names, name) == names.end()) names.push_back(name);
    }
  }
  if (names.empty()) return {};
  std::stable_partition(names.begin(), names.end(), [](const std::string& name) { return name != "total"; });
  constexpr const char* kLead = "{:<24} {:<8} {:<9} {:<10} {:>7}";
  std::string text = "the medians of the phases of node 0's faults, as it took the time itself\n" +
                     fmt::format(kLead, "case", "delivery", "loops", "kind", "count");
  const auto cell = [](const std::string& name, const std::string& value) {
    return fmt::format("  {:>{}}", value, std::max<std::size_t>(name.size(), 6));
  };
  for (const std::string& name : names) text += cell(name, name);
  for (const Figure& figure : report.figures) {
    std::map<std::string, std::map<std::string, Json>> rows;  // by kind, by phase
    for (const Json& phase : figure.phases) {
      const std::string kind = phase.at("kind");
      if (figure.kind.empty() || figure.kind == kind) rows[kind][phase.at("phase")] = phase;
    }
    for (const auto& [kind, phases] : rows) {
      const std::uint64_t count = phases.begin()->second.at("count");
      text += "\n" + fmt::format(kLead, title_of(figure), name_of(figure.setting->delivery),
                                 name_of(figure.setting->loops), kind, count);
      for (const std::string& name : names) {
        const auto found = phases.find(name);
        text += cell(name, found == phases.end() ? "-" : microseconds(found->second.at("p50_ns")));
      }
    }
  }
  return text + "\n";
}

template <typename T>
OrderedJson or_null(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

OrderedJson json_of_one(const Figure& figure, const Report& report) {
  OrderedJson json;
  json["case"] = figure.name;
  json["delivery"] = figure.setting ? OrderedJson(name_of(figure.setting->delivery)) : OrderedJson(nullptr);
  json["loops"] = figure.setting ? OrderedJson(name_of(figure.setting->loops)) : OrderedJson(nullptr);
  json["nodes"] = figure.node_count;
  json["hold_us"] = report.turns.hold_us;
  json["hand_on"] = report.turns.hand_on;
  json["count"] = figure.times.count;
  json["p50_ns"] = figure.times.p50_ns;
  json["p90_ns"] = figure.times.p90_ns;
  json["p99_ns"] = figure.times.p99_ns;
  json["max_ns"] = figure.times.max_ns;
  json["floor"] = figure.has_floor() ? OrderedJson(figure.floor) : OrderedJson(nullptr);
  json["floor_p50_ns"] = figure.has_floor() ? OrderedJson(figure.floor_p50_ns) : OrderedJson(nullptr);
  json["ratio"] = figure.has_floor() ? OrderedJson(figure.ratio()) : OrderedJson(nullptr);
  if (figure.rest_ms) json["rest_ms"] = *figure.rest_ms;
  if (figure.idle_cpu_share) json["idle_cpu_share"] = *figure.idle_cpu_share;
  if (figure.gb_per_s) json["gb_per_s"] = *figure.gb_per_s;
  if (figure.hand_overs_per_s) json["hand_overs_per_s"] = *figure.hand_overs_per_s;
  if (figure.longest_wait_ns) json["longest_wait_ns"] = *figure.longest_wait_ns;
  if (figure.stores_per_s) json["stores_per_s"] = *figure.stores_per_s;
  if (figure.shootdown_p50_ns) json["shootdown_p50_ns"] = *figure.shootdown_p50_ns;
  json["dropped_chunks"] = figure.dropped_chunks;
  json["line_before_ns"] = or_null(figure.line_before_ns);
  json["line_after_ns"] = or_null(figure.line_after_ns);
  json["phases"] = OrderedJson(figure.phases);
  json["warnings"] = report.warnings;
  for (const std::string& warning : figure.warnings) json["warnings"].push_back(warning);
  return json;
}

}  // namespace

std::string microseconds(std::uint64_t ns) { return fmt::format("{:.2f}", static_cast<double>(ns) / 1'000); }

std::string text_of(const Report& report) {
  constexpr const char* kLine =
      "{:<24} {:<8} {:<9} {:>5} {:>7} {:>9} {:>9} {:>9} {:>9}  {:<22} {:>9} {:>6} {:>10}  {}\n";
  std::string text = fmt::format(
      "hold {} µs{}; all times in µs; line: a cache line to the other core and back, "
      "before and after, ns\n",
      report.turns.hold_us, report.turns.hand_on ? "" : ", nothing handed on");
  text += fmt::format(kLine, "case", "delivery", "loops", "nodes", "count", "p50", "p90", "p99", "max",
                      "floor", "floor p50", "ratio", "line", "");
  for (const Figure& figure : report.figures) {
    const Quantiles& times = figure.times;
    const bool floor = figure.has_floor();
    const std::string line =
        figure.line_before_ns ? fmt::format("{}-{}", *figure.line_before_ns, *figure.line_after_ns) : "-";
    text += fmt::format(kLine, title_of(figure), figure.setting ? name_of(figure.setting->delivery) : "-",
                        figure.setting ? name_of(figure.setting->loops) : "-", figure.node_count, times.count,
                        microseconds(times.p50_ns), microseconds(times.p90_ns), microseconds(times.p99_ns),
                        microseconds(times.max_ns), floor ? figure.floor : "-",
                        floor ? microseconds(figure.floor_p50_ns) : "-",
                        floor ? fmt::format("{:.2f}", figure.ratio()) : "-", line, extras_of(figure));
    for (const std::string& warning : figure.warnings) text += "  WARNING: " + warning + "\n";
  }
  text += phases_text(report);
  for (const std::string& warning : report.warnings) text += "WARNING: " + warning + "\n";
  return text;
}

std::string json_of(const Report& report) {
  OrderedJson json = OrderedJson::array();
  for (const Figure& figure : report.figures) json.push_back(json_of_one(figure, report));
  return json.dump(2) + "\n";
}

}  // namespace pagewire::bench
