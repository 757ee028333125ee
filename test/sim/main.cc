// The simulator's command: replays one seed and tells it, or runs many. docs/proof.md says how to read it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "protocol/rules.h"
#include "test/sim/batch.h"
#include "test/sim/simulator.h"
#include "test/sim/story.h"

namespace pagewire::sim {
namespace {

struct Options {
  std::optional<std::uint64_t> seed;
  std::string seeds;
  std::uint64_t steps = 1'000;
  double minutes = 0;
  std::string mermaid;
  bool trace = false;
  std::optional<std::uint32_t> page;
  std::optional<std::uint64_t> from;
  std::optional<std::uint64_t> to;
  std::string json;
  std::vector<std::string> rules_off;
  bool list_rules = false;
  bool calm = false;
  bool no_turns = false;
};

void write(const std::string& path, const std::string& text) {
  if (path == "-") {
    fmt::print("{}", text);
    return;
  }
  std::ofstream out(path);
  out << text;
  out.close();
  if (!out) throw std::runtime_error(fmt::format("cannot write {}: is its folder there?", path));
}

// What of a seed's setting the flags decide instead; the same as words for the replay.
void adjust(Simulator& simulator, const Options& options) {
  simulator.adjust([&options](Setting& setting) {
    if (options.calm) make_calm(setting);
    if (options.no_turns) setting.sees_turns = false;
  });
}

std::string flags_of(const Options& options) {
  return std::string(options.calm ? "--calm " : "") + (options.no_turns ? "--no-turns " : "");
}

// Where the story begins if it is not said: some steps before what broke, or before the end.
Story::Choice choice_of(const Options& options, const Report& report) {
  constexpr std::uint64_t kStepsTold = 60;
  const std::uint64_t end = report.violation ? report.violation->step : report.steps_asked;
  Story::Choice choice;
  choice.page = options.page;
  choice.to_step = options.to.value_or(options.from ? *options.from + kStepsTold : end);
  choice.from_step = options.from.value_or(choice.to_step > kStepsTold ? choice.to_step - kStepsTold : 0);
  return choice;
}

int run_one(const Options& options, const std::string& switched) {
  Simulator simulator;
  adjust(simulator, options);
  const Report report = simulator.run(*options.seed, options.steps);
  if (!options.mermaid.empty() || options.trace) {
    Story story(choice_of(options, report));
    if (simulator.run(*options.seed, options.steps, &story).digest != report.digest)
      throw std::logic_error("the same seed went two ways: the simulator is broken");
    if (options.trace) fmt::print("{}\n", story.plain());
    if (!options.mermaid.empty()) write(options.mermaid, story.mermaid(report.setting.nodes));
    if (story.left_off() != 0)
      fmt::print(stderr, "sim: {} lines left off at the beginning; ask for fewer by --from, --to, --page\n",
                 story.left_off());
  }
  if (options.mermaid != "-") fmt::print("{}", describe(report));
  if (report.violation && options.mermaid.empty()) {
    fmt::print("as a diagram: {} --mermaid - --page {}\n", replay_command(report, switched),
               report.violation->page);
  }
  if (!options.json.empty()) write(options.json, to_json(report));
  return report.violation ? 1 : 0;
}

Batch batch_of(const Options& options) {
  Batch batch;
  batch.steps = options.steps;
  batch.seconds_max = options.minutes * 60;
  batch.last_seed = options.minutes > 0 ? std::numeric_limits<std::uint64_t>::max() - 1 : 1'000;
  if (options.seeds.empty()) return batch;
  const std::size_t dots = options.seeds.find("..");
  try {
    batch.first_seed = std::stoull(options.seeds);
    if (dots == std::string::npos) throw std::invalid_argument("no dots");
    if (dots + 2 < options.seeds.size()) batch.last_seed = std::stoull(options.seeds.substr(dots + 2));
  } catch (const std::exception&) {
    throw std::runtime_error(
        fmt::format("--seeds {}: write it as FIRST..LAST, for example 1..1000", options.seeds));
  }
  return batch;
}

int run_many(const Options& options, const std::string& switched) {
  Simulator simulator;
  adjust(simulator, options);
  const BatchReport report = run_batch(simulator, batch_of(options));
  fmt::print("{}", describe(report));
  if (report.broken) fmt::print("replay it: {}\n", replay_command(*report.broken, switched));
  if (!options.json.empty()) write(options.json, to_json(report));
  return report.broken ? 1 : 0;
}

#ifdef PAGEWIRE_SWITCHABLE_RULES
void add_rule_options(CLI::App& app, Options& options) {
  app.add_option("--rule-off", options.rules_off,
                 "switch this rule off: its name or number; may be repeated");
  app.add_flag("--list-rules", options.list_rules, "the rules by number and name");
}

protocol::Rule rule_by(const std::string& text) {
  for (std::size_t i = 0; i < protocol::kRules; ++i) {
    const auto rule = static_cast<protocol::Rule>(i);
    if (text == protocol::rule_name(rule) || text == std::to_string(i)) return rule;
  }
  throw std::runtime_error(fmt::format("--rule-off {}: no such rule; --list-rules has them all", text));
}

// What of the command line a replay needs, too.
std::string switch_rules(const Options& options) {
  std::string switched;
  for (const std::string& text : options.rules_off) {
    protocol::switch_off(rule_by(text));
    switched += fmt::format("--rule-off '{}' ", protocol::rule_name(rule_by(text)));
  }
  if (options.list_rules) {
    for (std::size_t i = 0; i < protocol::kRules; ++i)
      fmt::print("{:>2}  {}\n", i, protocol::rule_name(static_cast<protocol::Rule>(i)));
  }
  return switched;
}
#else
void add_rule_options(CLI::App& /*app*/, Options& /*options*/) {}
std::string switch_rules(const Options& /*options*/) { return {}; }
#endif

void add_options(CLI::App& app, Options& options) {
  auto* seed = app.add_option("--seed", options.seed, "replay this seed");
  auto* seeds = app.add_option("--seeds", options.seeds, "FIRST..LAST: run these, up to the first violation");
  auto* minutes = app.add_option("--minutes", options.minutes, "begin no seed later than that");
  app.add_option("--steps", options.steps, "of a seed before its network heals")->capture_default_str();
  app.add_option("--json", options.json, "the summary, to this file; -: to standard output");
  app.add_flag("--calm", options.calm,
               "nothing is lost, doubled, held up or overtaken, and the rest as shipped");
  app.add_flag("--no-turns", options.no_turns, "nobody says that a thread had its turn: each hold lasts");
  auto* mermaid =
      app.add_option("--mermaid", options.mermaid, "a sequence diagram, to this file; -: as above");
  auto* trace = app.add_flag("--trace", options.trace, "the same as lines of text");
  auto* page = app.add_option("--page", options.page, "tell this page alone");
  auto* from = app.add_option("--from", options.from, "the first step to tell: else 60 before --to");
  auto* to =
      app.add_option("--to", options.to, "the last step to tell: else the violation, or the last asked");
  seed->excludes(seeds)->excludes(minutes);
  for (CLI::Option* option : {mermaid, trace, page, from, to}) option->needs(seed);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Pagewire's deterministic simulator: one seed decides everything. Without --seed: 1,000 seeds.");
  Options options;
  add_options(app, options);
  add_rule_options(app, options);
  CLI11_PARSE(app, argc, argv);
  const std::string switched = switch_rules(options) + flags_of(options);
  if (options.list_rules) return 0;
  return options.seed ? run_one(options, switched) : run_many(options, switched);
}

}  // namespace
}  // namespace pagewire::sim

int main(int argc, char** argv) {
  try {
    return pagewire::sim::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "sim: {}\n", error.what());
    return 2;
  }
}
