// The exhaustive check by hand: `bazel run //test/model -- --nodes 3 --faults 3 --hold`. Says how far it went
// and what it found; a violation is printed as the shortest way to it, also as a Mermaid sequence.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "protocol/rules.h"
#include "test/model/explore.h"
#include "test/model/presets.h"

namespace pagewire::model {
namespace {

struct Arguments {
  Bounds bounds;
  std::string preset;
  bool list_presets = false;
  bool quiet = false;
  double minutes = 1e6;
  std::string mermaid;
  std::string json;
#ifdef PAGEWIRE_SWITCHABLE_RULES
  std::size_t rule_off = protocol::kRules;
  bool list_rules = false;
#endif
};

void add_bounds(CLI::App& app, Bounds& bounds) {
  app.add_option("--nodes", bounds.nodes)->check(CLI::Range(2U, static_cast<unsigned>(kNodesMax)));
  app.add_option("--pages", bounds.pages)->check(CLI::Range(1U, static_cast<unsigned>(kPagesMax)));
  app.add_option("--faults", bounds.faults, "accesses asked for in total")->check(CLI::Range(1, 20));
  app.add_option("--stores", bounds.stores, "stores to each page in total")->check(CLI::Range(0, 20));
  app.add_option("--forgets", bounds.forgets, "how often an owner loses its list of granted requests");
  app.add_option("--rounds", bounds.rounds, "each node's pool of rounds")->check(CLI::Range(2, 8));
  app.add_option("--states-max", bounds.states_max, "stop there, not complete");
  app.add_flag("--grace", bounds.grace, "a new owner waits for promises before it asks for them");
  app.add_flag("--migratory", bounds.migratory,
               "the page begins as one that nodes load and store to in turns");
  app.add_flag("--hold", bounds.hold, "what arrives is held for a while");
  app.add_flag("--overhear", bounds.overhear, "every node hears every message");
  app.add_flag("--in-order", bounds.in_order,
               "nothing is lost, each link keeps its order, nothing is repeated");
  app.add_flag("!--no-losses", bounds.losses, "without the state in which all under way is lost");
  app.add_flag("!--no-fold", bounds.fold, "states that differ only by the names of nodes stay apart");
  app.add_flag("--only-coherence", bounds.only_coherence,
               "only I1 to I6 count, not what single steps complain of");
  const std::map<std::string, Restart> restarts{
      {"none", Restart::kNone}, {"boot", Restart::kNewBoot}, {"view", Restart::kNewView}};
  app.add_option("--restart", bounds.restart, "each node may begin anew, once")
      ->transform(CLI::CheckedTransformer(restarts));
  const std::map<std::string, protocol::Placement> placements{
      {"cyclic", protocol::Placement::kCyclic},
      {"first_touch", protocol::Placement::kFirstTouch},
      {"one_node", protocol::Placement::kOneNode}};
  app.add_option("--placement", bounds.placement)->transform(CLI::CheckedTransformer(placements));
}

void add_arguments(CLI::App& app, Arguments& arguments) {
  add_bounds(app, arguments.bounds);
  app.add_option("--preset", arguments.preset, "bounds by name; further flags are ignored");
  app.add_flag("--list", arguments.list_presets, "the presets");
  app.add_option("--minutes", arguments.minutes, "stop then, not complete");
  app.add_flag("--quiet", arguments.quiet, "no progress");
  app.add_option("--mermaid", arguments.mermaid, "the way to a violation as a Mermaid sequence, to FILE");
  app.add_option("--json", arguments.json, "the figures, to FILE");
#ifdef PAGEWIRE_SWITCHABLE_RULES
  app.add_option("--rule-off", arguments.rule_off, "the number of a rule to leave out")
      ->check(CLI::Range(std::size_t{0}, protocol::kRules - 1));
  app.add_flag("--list-rules", arguments.list_rules);
#endif
}

void write_json(const std::string& file, const std::string& name, const Report& report) {
  const nlohmann::json figures = {{"name", name},
                                  {"states", report.states},
                                  {"edges", report.edges},
                                  {"depth", report.depth},
                                  {"seconds", report.seconds},
                                  {"cpu_seconds", report.cpu_seconds},
                                  {"memory_bytes", report.memory_bytes},
                                  {"deadlocks", report.deadlocks},
                                  {"stuck", report.stuck},
                                  {"complete", report.complete},
                                  {"violation", report.violation},
                                  {"steps", report.path.empty() ? 0 : report.path.size() - 1}};
  std::ofstream(file) << figures.dump(2) << "\n";
}

int list() {
  for (const Preset& preset : presets()) fmt::print("{:<14} {}\n", preset.name, preset.what);
  return 0;
}

int run(Arguments& arguments) {
  std::string name = "by flags";
  if (!arguments.preset.empty()) {
    const Preset* preset = find_preset(arguments.preset);
    if (preset == nullptr) {
      fmt::print(stderr, "no preset '{}'; --list names them\n", arguments.preset);
      return 2;
    }
    arguments.bounds = preset->bounds;
    name = preset->what;
  }
#ifdef PAGEWIRE_SWITCHABLE_RULES
  if (arguments.rule_off < protocol::kRules) {
    protocol::switch_off(static_cast<protocol::Rule>(arguments.rule_off));
    name += std::string(", without: ") + protocol::rule_name(static_cast<protocol::Rule>(arguments.rule_off));
  }
#endif
  if (arguments.bounds.restart != Restart::kNone &&
      arguments.bounds.placement != protocol::Placement::kOneNode) {
    fmt::print(stderr, "--restart with another --placement than one_node: pages would begin by names\n");
    return 2;
  }
  if (arguments.bounds.in_order) arguments.bounds.losses = false;
  Options options{.seconds_max = arguments.minutes * 60};
  double last = 0;
  if (!arguments.quiet) {
    options.progress = [&](const Report& report) {
      if (report.seconds - last < 5) return;
      last = report.seconds;
      fmt::print(stderr, "{}\n", report.summary());
    };
  }
  const Report report = explore(arguments.bounds, options);
  fmt::print("{}: {}\n", name, report.summary());
  if (!report.violation.empty()) fmt::print("{}", report.path_text());
  if (!arguments.mermaid.empty()) std::ofstream(arguments.mermaid) << report.mermaid();
  if (!arguments.json.empty()) write_json(arguments.json, name, report);
  return report.violation.empty() ? 0 : 1;
}

}  // namespace
}  // namespace pagewire::model

int main(int argc, char** argv) {
  using namespace pagewire;
  CLI::App app{"Explores all that can happen in a small cluster that runs the protocol's real functions."};
  model::Arguments arguments;
  model::add_arguments(app, arguments);
  CLI11_PARSE(app, argc, argv);
  if (arguments.list_presets) return model::list();
#ifdef PAGEWIRE_SWITCHABLE_RULES
  if (arguments.list_rules) {
    for (std::size_t i = 0; i < protocol::kRules; ++i)
      fmt::print("{:>2} {}\n", i, protocol::rule_name(static_cast<protocol::Rule>(i)));
    return 0;
  }
#endif
  return model::run(arguments);
}
