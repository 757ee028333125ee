#include "bench/latency_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace pagewire::bench {

namespace {

std::string microseconds(std::uint64_t ns) { return fmt::format("{:.2f}", static_cast<double>(ns) / 1'000); }

std::string line_text(const std::optional<std::uint64_t>& ns) {
  return ns ? fmt::format("{} ns", *ns) : "one core";
}

double ratio_of(const Figure& figure) {
  return static_cast<double>(figure.times.p50_ns) / static_cast<double>(figure.floor_p50_ns);
}

bool has_floor(const Figure& figure) { return figure.floor_p50_ns > 0; }

using Json = nlohmann::ordered_json;

Json json_or_null(const std::optional<std::uint64_t>& value) { return value ? Json(*value) : Json(nullptr); }

Json json_of(const Figure& figure, const Report& report) {
  Json json;
  json["case"] = figure.name;
  json["delivery"] = "thread";  // faults come over the fault thread
  json["loops"] = "shared";     // loops float over the cores that the service's threads use
  json["nodes"] = report.node_count;
  json["loop_count"] = report.loop_count;
  json["hold_us"] = report.hold_us;
  json["count"] = figure.times.count;
  json["p50_ns"] = figure.times.p50_ns;
  json["p90_ns"] = figure.times.p90_ns;
  json["p99_ns"] = figure.times.p99_ns;
  json["max_ns"] = figure.times.max_ns;
  json["floor"] = has_floor(figure) ? Json(figure.floor) : Json(nullptr);
  json["floor_p50_ns"] = has_floor(figure) ? Json(figure.floor_p50_ns) : Json(nullptr);
  json["ratio"] = has_floor(figure) ? Json(ratio_of(figure)) : Json(nullptr);
  json["node_p50_ns"] = has_floor(figure) ? Json(figure.node_p50_ns) : Json(nullptr);
  json["line_before_ns"] = json_or_null(report.line_before_ns);
  json["line_after_ns"] = json_or_null(report.line_after_ns);
  json["warnings"] = report.warnings;
  return json;
}

}  // namespace

std::string text_of(const Report& report) {
  constexpr const char* kLine = "{:<22} {:>7} {:>9} {:>9} {:>9} {:>9}  {:<24} {:>9} {:>6} {:>9}\n";
  std::string text =
      fmt::format("{} processes, {} loop{} each, hold {} µs; all times in µs\n", report.node_count,
                  report.loop_count, report.loop_count == 1 ? "" : "s", report.hold_us);
  text += fmt::format(kLine, "case", "count", "p50", "p90", "p99", "max", "floor", "floor p50", "ratio",
                      "node p50");
  for (const Figure& figure : report.figures) {
    const bool floor = has_floor(figure);
    const Quantiles& times = figure.times;
    text += fmt::format(kLine, figure.name, times.count, microseconds(times.p50_ns),
                        microseconds(times.p90_ns), microseconds(times.p99_ns), microseconds(times.max_ns),
                        floor ? figure.floor : "-", floor ? microseconds(figure.floor_p50_ns) : "-",
                        floor ? fmt::format("{:.2f}", ratio_of(figure)) : "-",
                        floor ? microseconds(figure.node_p50_ns) : "-");
  }
  text += fmt::format("a cache line to the other core and back: {} before, {} after\n",
                      line_text(report.line_before_ns), line_text(report.line_after_ns));
  for (const std::string& warning : report.warnings) text += "WARNING: " + warning + "\n";
  return text;
}

std::string json_of(const Report& report) {
  Json json = Json::array();
  for (const Figure& figure : report.figures) json.push_back(json_of(figure, report));
  return json.dump(2) + "\n";
}

}  // namespace pagewire::bench
