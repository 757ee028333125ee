// Records what processes see in shared memory and checks it; or checks what was kept.
//
//   bazel run //test/history -- --operations 100000 --loss 0.1 --keep /tmp/kept
//   bazel run //test/history -- --check /tmp/kept
//
// Ends with 0 if all holds, 1 if not, 2 if that could not be decided, 3 if something failed. The nodes are
// processes of this program, too: its first argument is `client` then.
#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <string_view>

#include "pagewire/error.h"
#include "test/history/client.h"
#include "test/history/machines.h"
#include "test/history/record.h"
#include "test/history/report.h"

namespace pagewire::history {

namespace {

std::atomic<bool> stop_asked{false};
void on_signal(int) { stop_asked = true; }

int run(int argc, char** argv) {
  CLI::App app("Records a history of shared memory by processes, and checks it");
  RecordOptions options;
  options.loss = 0.1;
  options.seed = std::random_device()();
  std::string check;
  bool plant = false;
  app.add_option("--operations", options.operations, "of all clients together")->capture_default_str();
  app.add_option("--seed", options.seed,
                 "of what is done and what is lost; else a new one, shown in the table");
  app.add_option("--loss", options.loss, "share of frames lost; as many are overtaken, half as many doubled")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  app.add_option("--nodes", options.nodes, "processes")->check(CLI::Range(2, 16))->capture_default_str();
  app.add_option("--threads", options.threads, "clients of each node")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  app.add_option("--loops", options.loops, "packet loops of each node")
      ->check(CLI::Range(1, 4))
      ->capture_default_str();
  app.add_flag("--inline", options.inline_delivery, "faults are taken by the threads themselves");
  app.add_flag("--self", options.self_driven, "loops are driven by the threads that wait");
  app.add_option("--words", options.words)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--pages", options.pages)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--pause-us", options.pause_us, "longest pause of a client between operations")
      ->capture_default_str();
  app.add_option("--keep", options.keep, "a folder for the history; without it nothing is kept");
  auto* check_flag =
      app.add_option("--check", check, "check the history in this folder; nothing is recorded");
  app.add_flag("--plant", plant,
               "let one read go back to an older value before the check, which must see it");
  CLI11_PARSE(app, argc, argv);

  // `bazel run` starts programs elsewhere; folders are meant from where the user is.
  const char* from = std::getenv("BUILD_WORKING_DIRECTORY");
  if (from != nullptr) std::filesystem::current_path(from);
  setenv("PAGEWIRE_NODE_PROGRAM", "/proc/self/exe", 1);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, on_signal);
  KeptHistory kept = *check_flag ? read_history(check) : record(options, &stop_asked);
  if (plant && !make_one_read_go_back(kept.history, kept.fact("seed"))) {
    throw Error("planting a defect", "no client saw two values of a word", "Record more operations");
  }
  const Judgement judgement = judge(kept);
  std::fputs(judgement.explanations.c_str(), stdout);
  std::fputs(judgement.table.c_str(), stdout);
  if (!judgement.holds() && !options.keep.empty())
    std::printf("kept; check again with --check %s\n", options.keep.c_str());
  if (judgement.holds()) return 0;
  const bool violated = judgement.sequential.verdict == Verdict::kViolated ||
                        judgement.linearizable.verdict == Verdict::kViolated;
  return violated ? 1 : 2;
}

}  // namespace
}  // namespace pagewire::history

int main(int argc, char** argv) {
  try {
    if (argc > 1 && std::string_view(argv[1]) == "client") return pagewire::history::run_client(argc, argv);
    return pagewire::history::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}
