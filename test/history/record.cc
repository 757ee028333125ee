#include "test/history/record.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <vector>

#include "pagewire/error.h"
#include "test/e2e/cluster.h"

namespace pagewire::history {

namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::string> flags_of(const RecordOptions& options, const std::string& keep) {
  const std::uint64_t clients = std::uint64_t{options.nodes} * options.threads;
  std::vector<std::string> flags{"--operations", std::to_string((options.operations + clients - 1) / clients),
                                 "--threads",    std::to_string(options.threads),
                                 "--words",      std::to_string(options.words),
                                 "--pages",      std::to_string(options.pages),
                                 "--pause-us",   std::to_string(options.pause_us),
                                 "--loops",      std::to_string(options.loops),
                                 "--seed",       std::to_string(options.seed)};
  if (!keep.empty()) flags.insert(flags.end(), {"--out", keep});
  if (options.inline_delivery) flags.emplace_back("--inline");
  if (options.self_driven) flags.emplace_back("--self");
  if (options.loss > 0) {
    flags.insert(flags.end(),
                 {"--drop", std::to_string(options.loss), "--duplicate", std::to_string(options.loss / 2),
                  "--reorder", std::to_string(options.loss), "--retry-us", "300"});
  }
  return flags;
}

// Until the node has written its files or ended, or the deadline, or *stop.
void wait_for(e2e::Cluster& cluster, std::uint32_t node, Clock::time_point until,
              const std::atomic<bool>* stop) {
  while (Clock::now() < until && (stop == nullptr || !*stop)) {
    const auto before = Clock::now();
    if (cluster.wait_for(node, "finished", 1)) return;
    if (Clock::now() - before < std::chrono::milliseconds(900)) return;  // it has ended without
  }
}

}  // namespace

KeptHistory record(const RecordOptions& options, const std::atomic<bool>* stop) {
  std::string keep = options.keep;
  if (!keep.empty()) {
    keep = std::filesystem::absolute(keep).string();
    std::error_code failed;
    std::filesystem::create_directories(keep, failed);
    if (failed) throw Error("making " + keep, failed.message(), "Name a folder that can be made");
  }
  e2e::Cluster cluster("client", options.nodes, flags_of(options, keep));
  const auto until = Clock::now() + std::chrono::seconds(60 + options.operations / 1000);
  for (std::uint32_t node = 0; node < options.nodes; ++node) wait_for(cluster, node, until, stop);
  if (stop != nullptr && *stop) throw Error("recording", "it was interrupted", "");
  for (std::uint32_t node = 0; node < options.nodes; ++node) {
    const e2e::Finished finished = cluster.finish(node, 10);
    if (finished.exit_code == 0) continue;
    throw Error(fmt::format("node {} of the recording", node),
                fmt::format("exit code {}\n{}", finished.exit_code, finished.output),
                fmt::format("Repeat with --operations {} --seed {} --loss {}{}{}", options.operations,
                            options.seed, options.loss, options.inline_delivery ? " --inline" : "",
                            options.self_driven ? " --self" : ""));
  }
  return read_history(keep.empty() ? cluster.folder() : keep);
}

}  // namespace pagewire::history
