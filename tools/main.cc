// The `pagewire` command: its subcommands and their options. Errors are one line on stderr; exit codes: 0
// well, 1 not, 2 wrong usage.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "tools/commands.h"
#include "tools/text_files.h"

namespace pagewire::tools {

namespace {

struct Options {
  DemoOptions demo;
  DemoNodeOptions demo_node;
  NodeOptions node;
  DoctorOptions doctor;
  TrialOptions trial;
  std::function<int()> run;
  std::string speaker = "pagewire";
};

void add_demo_options(CLI::App& command, DemoOptions& demo) {
  command.add_option("--nodes", demo.node_count, "How many processes")
      ->check(CLI::Range(2, 8))
      ->capture_default_str();
  command.add_option("--loops", demo.loops, "Packet loops of each node")
      ->check(CLI::Range(1, 16))
      ->capture_default_str();
  command.add_option("--drop", demo.impairment.drop, "Share of frames that the ports lose")
      ->check(CLI::Range(0.0, 0.9));
  command.add_option("--duplicate", demo.impairment.duplicate, "Share of frames that they double")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--reorder", demo.impairment.reorder, "Share of frames that they hold back")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--seed", demo.impairment.seed, "Decides which frames")->capture_default_str();
  command.add_flag("--corrupt", demo.corrupt, "Adds a word too many")->group("");
}

void add_demo(CLI::App& app, Options& options) {
  CLI::App* const demo = app.add_subcommand("demo", "Counts words with several processes over shared memory");
  add_demo_options(*demo, options.demo);
  demo->add_option("FILE", options.demo.files,
                   fmt::format("Text files; without any, those of Debian's package {}", kTextPackage));
  demo->callback([&] { options.run = [&] { return run_demo(options.demo); }; });

  CLI::App* const node = app.add_subcommand("demo-node", "One process of the demo")->group("");
  add_demo_options(*node, options.demo_node.demo);
  node->add_option("--id", options.demo_node.id)->required();
  node->add_option("--folder", options.demo_node.folder)->required();
  node->add_option("FILE", options.demo_node.demo.files);
  node->callback([&] {
    options.speaker = fmt::format("pagewire: node {}", options.demo_node.id);
    options.run = [&] { return run_demo_node(options.demo_node); };
  });
}

void add_node(CLI::App& app, Options& options) {
  CLI::App* const node = app.add_subcommand("node",
                                            "One node by a cluster file: joins, checks that memory is "
                                            "shared, stays until Ctrl-C and shows its statistics");
  node->add_option("--config", options.node.config_file, "The cluster file (docs/configuration.md)")
      ->required();
  node->add_option("--id", options.node.id, "Which node this is; default: `node` of the file")
      ->check(CLI::Range(0, 63));
  node->add_option("--seconds", options.node.seconds, "Leave after so long")->check(CLI::NonNegativeNumber);
  node->add_option("--every", options.node.every_seconds, "Seconds between two lines of statistics")
      ->check(CLI::Range(0.1, 86'400.0))
      ->capture_default_str();
  node->add_option("--run", options.node.run,
                   "demo: count words with all nodes, as `pagewire demo` does, and leave")
      ->check(CLI::IsMember({"demo"}));
  node->add_option(
      "FILE", options.node.files,
      fmt::format("Text files for --run demo; node 0 alone reads them. Default: Debian's {}", kTextPackage));
  node->callback([&] {
    if (options.node.run == "demo" && options.node.files.empty() && options.node.id <= 0) {
      options.run = [&] {
        options.node.files = default_text_files();
        return run_node(options.node);
      };
      return;
    }
    options.run = [&] { return run_node(options.node); };
  });
}

void add_doctor(CLI::App& app, Options& options) {
  CLI::App* const doctor = app.add_subcommand(
      "doctor", "Checks whether a node could start on this machine; exit code 0 only if it could");
  doctor->add_option("--config", options.doctor.config_file,
                     "Check for this cluster file; default: as the demo");
  doctor->add_flag("--json", options.doctor.json, "Print JSON");
  doctor->callback([&] { options.run = [&] { return run_doctor(options.doctor); }; });

  CLI::App* const trial = app.add_subcommand("trial-node", "One process of the doctor's trial")->group("");
  trial->add_option("--id", options.trial.id)->required();
  trial->add_option("--folder", options.trial.folder)->required();
  trial->add_option("--config", options.trial.config_file);
  trial->callback([&] { options.run = [&] { return run_trial_node(options.trial); }; });
}

// The whole command line; what it asks for is options.run then. The exit code if there is nothing to run.
std::optional<int> parse(int argument_count, char** arguments, Options& options) {
  CLI::App app("Pagewire: memory shared between processes and machines with plain loads and stores",
               "pagewire");
  app.require_subcommand(1);
  add_demo(app, options);
  add_node(app, options);
  add_doctor(app, options);
  try {
    app.parse(argument_count, arguments);
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "pagewire: command line: {}. See pagewire --help\n", error.what());
    return kUsage;
  }
  return std::nullopt;
}

int run(int argument_count, char** arguments) noexcept {
  Options options;
  try {
    const std::optional<int> code = parse(argument_count, arguments, options);
    return code ? *code : options.run();
  } catch (const std::exception& error) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s: %s\n", options.speaker.c_str(), error.what());
    return kFailed;
  }
}

}  // namespace

}  // namespace pagewire::tools

int main(int argument_count, char** arguments) { return pagewire::tools::run(argument_count, arguments); }
