// The command: bazel run //test/litmus -- --test SB --order relaxed --layout pages --iterations 1000000
// Exit code 0: nothing forbidden was seen; 1: something was; 2: wrong arguments; 3: a run failed.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "test/litmus/campaign.h"
#include "test/litmus/verdict.h"

namespace pagewire::litmus {

namespace {

constexpr int kForbidden = 1;
constexpr int kBadArguments = 2;
constexpr int kFailed = 3;

std::atomic<bool> interrupted{false};
void interrupt(int) { interrupted.store(true); }

struct Arguments {
  std::vector<std::string> tests = {"all"};
  std::vector<std::string> orders = {"all"};
  std::vector<std::string> layouts = {"all"};
  std::string memory = "region";
  std::string json;
  bool list = false;
  bool quiet = false;
  CampaignOptions options;
  std::uint64_t hold_us = 0;
  double drop = 0;
  double duplicate = 0;
  double reorder = 0;
  bool inline_delivery = false;
  bool self_driven = false;
};

template <typename Names>
bool wanted(const std::vector<std::string>& given, const Names& names, std::size_t index) {
  return std::any_of(given.begin(), given.end(),
                     [&](const std::string& name) { return name == "all" || name == names[index]; });
}

// "SB, MP or all"
template <typename Names>
CLI::Validator one_of(const Names& names) {
  std::vector<std::string> allowed(names.begin(), names.end());
  allowed.emplace_back("all");
  return CLI::IsMember(allowed);
}

std::vector<Case> chosen_cases(const Arguments& arguments) {
  std::vector<Case> cases;
  for (std::size_t shape = 0; shape < kShapes.size(); ++shape) {
    for (std::size_t order = 0; order < kOrders.size(); ++order) {
      for (std::size_t layout = 0; layout < kLayouts.size(); ++layout) {
        if (wanted(arguments.tests, shape_names(), shape) && wanted(arguments.orders, kOrderNames, order) &&
            wanted(arguments.layouts, kLayoutNames, layout)) {
          cases.push_back(Case{.shape = shape, .order = kOrders[order], .layout = kLayouts[layout]});
        }
      }
    }
  }
  return cases;
}

// "x=1; r0=y | y=1; r1=x"
std::string code_text(const Shape& shape) {
  std::string text;
  for (std::size_t t = 0; t < shape.thread_count; ++t) {
    if (t > 0) text += " | ";
    for (std::size_t i = 0; i < shape.threads[t].op_count; ++i) {
      const Op op = shape.threads[t].ops[i];
      const std::string_view variable = kVariableNames[op.variable];
      text += i > 0 ? "; " : "";
      text +=
          op.is_load ? fmt::format("r{}={}", op.value, variable) : fmt::format("{}={}", variable, op.value);
    }
  }
  return text;
}

void print_list() {
  for (const Shape& shape : kShapes) {
    fmt::print("{:<6}{}\n      {}\n", shape.name, shape.about, code_text(shape));
    for (std::size_t i = 0; i < kOrders.size(); ++i) {
      const Judgement judgement = judge(shape, kOrders[i]);
      std::string weak;
      for (const Outcome& outcome : judgement.cpp) {
        if (judgement.weak(outcome)) weak += (weak.empty() ? "" : ", ") + to_text(shape, outcome);
      }
      fmt::print("      {:<8} {} of {} outcomes allowed; weak ones: {}\n", kOrderNames[i],
                 judgement.cpp.size(), judgement.conceivable.size(), weak.empty() ? "none" : weak);
    }
  }
}

// Where the user is: `bazel run` starts programs elsewhere.
std::filesystem::path user_path(const std::string& path) {
  const char* folder = std::getenv("BUILD_WORKING_DIRECTORY");
  return folder == nullptr ? std::filesystem::path(path) : std::filesystem::path(folder) / path;
}

void write_json(const Arguments& arguments, const std::vector<CaseReport>& reports) {
  const std::filesystem::path path = user_path(arguments.json);
  std::ofstream file(path);
  file << to_json(arguments.options, reports).dump(2) << '\n';
  file.close();
  if (!file)
    throw std::runtime_error("cannot write " + path.string() + ". Is there such a folder, and room?");
}

int run(const Arguments& arguments) {
  struct sigaction action {};
  action.sa_handler = interrupt;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaction(number, &action, nullptr);
  setenv("PAGEWIRE_NODE_PROGRAM", std::filesystem::read_symlink("/proc/self/exe").c_str(), 1);
  fmt::print("seed {}, memory: {}\n\n", arguments.options.seed, arguments.memory);
  const auto show = [&](const CaseReport& report) {
    const Judgement judgement = judge(report.one.code(), report.one.order);
    if (arguments.quiet && verdict_of(judgement, report.result.histogram).passed()) return;
    fmt::print("{}\n", histogram_text(report, judgement));
    std::fflush(stdout);
  };
  const std::vector<CaseReport> reports = run_cases(arguments.options, show, &interrupted);
  fmt::print("{}", summary_text(reports));
  if (!arguments.json.empty()) write_json(arguments, reports);
  if (all_passed(reports)) return 0;
  for (const CaseReport& report : reports) {
    if (all_passed({report})) continue;
    fmt::print(
        "again, with the same plan; threads race, so it may take more than once:\n"
        "  bazel run //test/litmus -- --test {} --order {} --layout {} --iterations {} --seed {} {}\n",
        report.one.code().name, report.one.order_name(), report.one.layout_name(),
        report.result.histogram.total(), arguments.options.seed,
        fmt::join(arguments.options.node_flags, " "));
  }
  return kForbidden;
}

int parse_and_run(int argc, char** argv) {
  CLI::App app("Litmus tests between processes that share a Pagewire region");
  Arguments arguments;
  arguments.options.seed = std::random_device()();
  arguments.options.iterations = 100'000;
  app.add_option("--test", arguments.tests, "SB, MP, …, or all")
      ->delimiter(',')
      ->check(one_of(shape_names()));
  app.add_option("--order", arguments.orders, "relaxed, acq_rel, seq_cst, or all")
      ->delimiter(',')
      ->check(one_of(kOrderNames));
  app.add_option("--layout", arguments.layouts, "pages (each variable on its own), one_page, or all")
      ->delimiter(',')
      ->check(one_of(kLayoutNames));
  app.add_option("--iterations", arguments.options.iterations, "of each case")->check(CLI::PositiveNumber);
  app.add_option("--seconds", arguments.options.seconds, "at most for each case; 0: no bound")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--seed", arguments.options.seed, "of starting points, strides and delays");
  app.add_option("--memory", arguments.memory,
                 "region, or plain: a mapped file without Pagewire, to compare with")
      ->check(CLI::IsMember(std::vector<std::string>(kMemoryNames.begin(), kMemoryNames.end())));
  app.add_flag("--inline", arguments.inline_delivery, "inline delivery of faults in the nodes");
  app.add_flag("--self", arguments.self_driven, "loops that are driven by the threads that wait");
  auto* hold = app.add_option("--hold-us", arguments.hold_us, "timeouts.hold_us of the nodes");
  app.add_option("--drop", arguments.drop, "share of frames lost")->check(CLI::Range(0.0, 1.0));
  app.add_option("--duplicate", arguments.duplicate, "share of frames doubled")->check(CLI::Range(0.0, 1.0));
  app.add_option("--reorder", arguments.reorder, "share of frames overtaken")->check(CLI::Range(0.0, 1.0));
  app.add_option("--json", arguments.json, "writes all histograms to this file");
  app.add_flag("--quiet", arguments.quiet, "the table at the end, and failures");
  app.add_flag("--list", arguments.list, "the tests, and what C++ allows of each");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : kBadArguments;
  }
  if (arguments.list) {
    print_list();
    return 0;
  }
  CampaignOptions& options = arguments.options;
  options.cases = chosen_cases(arguments);
  options.memory = static_cast<Memory>(index_of(kMemoryNames, arguments.memory).value());
  options.node_flags = {"--drop",      fmt::format("{}", arguments.drop),
                        "--duplicate", fmt::format("{}", arguments.duplicate),
                        "--reorder",   fmt::format("{}", arguments.reorder)};
  if (arguments.inline_delivery) options.node_flags.emplace_back("--inline");
  if (arguments.self_driven) options.node_flags.emplace_back("--self");
  if (hold->count() > 0)
    options.node_flags.insert(options.node_flags.end(), {"--hold-us", std::to_string(arguments.hold_us)});
  return run(arguments);
}

}  // namespace
}  // namespace pagewire::litmus

int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string_view(argv[1]) == pagewire::litmus::kNodeCommand) {
      return pagewire::litmus::run_node(argc, argv);
    }
    return pagewire::litmus::parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return pagewire::litmus::kFailed;
  }
}
