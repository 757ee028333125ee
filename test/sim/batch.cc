#include "test/sim/batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "protocol/rules.h"

namespace pagewire::sim {
namespace {

using nlohmann::ordered_json;
using protocol::Drop;
using protocol::MessageType;

#ifdef PAGEWIRE_SWITCHABLE_RULES
constexpr const char* kTarget = "//test/sim:sim_switchable";
#else
constexpr const char* kTarget = "//test/sim";
#endif

constexpr std::array<const char*, protocol::kEvents> kEventNames = {"no round for a message",
                                                                    "stale",
                                                                    "below the floor",
                                                                    "already granted",
                                                                    "deferred",
                                                                    "deferred lost",
                                                                    "not owner",
                                                                    "unsolicited",
                                                                    "repeated",
                                                                    "asked again",
                                                                    "refused"};

// Calls f(name, count) for each counter of the group.
template <typename F>
void each_counter(const Counters& counters, F&& f) {
  for (std::size_t i = 0; i < kCounters; ++i) f("run", counter_name(static_cast<Counter>(i)), counters.of[i]);
  for (std::size_t i = 1; i < counters.messages.size(); ++i)
    f("messages", type_name(static_cast<MessageType>(i)), counters.messages[i]);
  for (std::size_t i = 1; i < counters.drops.size(); ++i)
    f("dropped", std::string(protocol::drop_name(static_cast<Drop>(i))).c_str(), counters.drops[i]);
  for (std::size_t i = 0; i < kCalamities; ++i)
    f("weather", calamity_name(static_cast<Calamity>(i)), counters.calamities[i]);
  for (std::size_t i = 0; i < protocol::kEvents; ++i)
    f("protocol", kEventNames[i], counters.protocol_events[i]);
}

ordered_json json_of(const Counters& counters) {
  ordered_json json;
  each_counter(counters,
               [&](const char* group, const char* name, std::uint64_t count) { json[group][name] = count; });
  return json;
}

ordered_json json_of(const Report& report) {
  ordered_json json;
  json["seed"] = report.seed;
  json["steps_asked"] = report.steps_asked;
  json["steps"] = report.steps;
  json["nodes"] = report.setting.nodes;
  json["pages"] = report.setting.pages;
  json["virtual_ns"] = report.time_ns;
  json["heal_ns"] = report.heal_ns;
  json["heal_bound_ns"] = report.heal_bound_ns;
  json["worst_wait_ns"] = report.worst_wait_ns;
  json["digest"] = fmt::format("{:016x}", report.digest);
  json["replay"] = replay_command(report);
  if (report.violation) {
    json["violation"] = {{"what", report.violation->what},
                         {"step", report.violation->step},
                         {"node", report.violation->node},
                         {"page", report.violation->page}};
  }
  json["counters"] = json_of(report.counters);
  return json;
}

}  // namespace

BatchReport run_batch(Simulator& simulator, const Batch& batch) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  BatchReport total;
  for (std::uint64_t seed = batch.first_seed; seed <= batch.last_seed; ++seed) {
    if (batch.seconds_max > 0 && seconds() > batch.seconds_max) break;
    const Report& report = simulator.run(seed, batch.steps);
    ++total.seeds;
    total.steps += report.steps;
    total.counters.add(report.counters);
    if (report.worst_wait_ns > total.worst_wait_ns) {
      total.worst_wait_ns = report.worst_wait_ns;
      total.worst_wait_seed = seed;
    }
    if (report.heal_bound_ns != 0) {
      total.heal_share_max = std::max(total.heal_share_max, static_cast<double>(report.heal_ns) /
                                                                static_cast<double>(report.heal_bound_ns));
    }
    if (report.violation) {
      total.broken = report;
      break;
    }
  }
  total.seconds = seconds();
  return total;
}

std::string replay_command(const Report& report, const std::string& options) {
  return fmt::format("bazel run {} -- {}--seed {} --steps {}", kTarget, options, report.seed,
                     report.steps_asked);
}

std::string describe(const Counters& counters) {
  std::string text;
  std::string group_before;
  std::size_t column = 0;
  each_counter(counters, [&](const std::string& group, const char* name, std::uint64_t count) {
    if (group != group_before) {
      text += fmt::format("{}{:<9}", text.empty() ? "" : "\n", group);
      column = 9;
      group_before = group;
    }
    const std::string item = fmt::format(" {} {}", name, count);
    if (column + item.size() > 110) {
      text += "\n         ";
      column = 9;
    }
    text += item + ",";
    column += item.size() + 1;
  });
  return text + "\n";
}

std::string describe(const Report& report) {
  std::string text = fmt::format("seed      {}\n{}", report.seed, describe(report.setting));
  text += describe(report.counters);
  text += fmt::format("steps     {}, in {:.1f} us of virtual time\n", report.steps,
                      static_cast<double>(report.time_ns) / 1e3);
  if (report.heal_bound_ns != 0) {
    text += fmt::format("healing   all answered within {:.1f} us of {:.1f} us allowed\n",
                        static_cast<double>(report.heal_ns) / 1e3,
                        static_cast<double>(report.heal_bound_ns) / 1e3);
  }
  text +=
      fmt::format("waits     the longest took {:.1f} us\n", static_cast<double>(report.worst_wait_ns) / 1e3);
  text += fmt::format("digest    {:016x}\n", report.digest);
  if (!report.violation) return text + "verdict   no violation\n";
  return text + fmt::format("verdict   VIOLATION at step {}, node {}, page {}: {}\n", report.violation->step,
                            report.violation->node, report.violation->page, report.violation->what);
}

std::string describe(const BatchReport& report) {
  std::string text = describe(report.counters);
  text += fmt::format(
      "seeds     {}, {:.0f} a second\nsteps     {}, {:.2f} million a second\n"
      "healing   the longest took {:.0f} % of what is allowed\n"
      "waits     the longest, from a fault to the access, took {:.1f} us, in seed {}\n",
      report.seeds, static_cast<double>(report.seeds) / std::max(report.seconds, 1e-9), report.steps,
      static_cast<double>(report.steps) / std::max(report.seconds, 1e-9) / 1e6, 100 * report.heal_share_max,
      static_cast<double>(report.worst_wait_ns) / 1e3, report.worst_wait_seed);
  if (!report.broken) return text + "verdict   no violation\n";
  const Violation& violation = *report.broken->violation;
  return text + fmt::format("verdict   VIOLATION in seed {} at step {}, node {}, page {}: {}\n",
                            report.broken->seed, violation.step, violation.node, violation.page,
                            violation.what);
}

std::string to_json(const Report& report) { return json_of(report).dump(2) + "\n"; }

std::string to_json(const BatchReport& report) {
  ordered_json json;
  json["seeds"] = report.seeds;
  json["steps"] = report.steps;
  json["seconds"] = report.seconds;
  json["heal_share_max"] = report.heal_share_max;
  json["worst_wait_ns"] = report.worst_wait_ns;
  json["violations"] = report.broken ? 1 : 0;
  if (report.broken) json["broken"] = json_of(*report.broken);
  json["counters"] = json_of(report.counters);
  return json.dump(2) + "\n";
}

}  // namespace pagewire::sim
