// `pagewire doctor`: every check in order, then a trial with two real nodes.
#include "tools/doctor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "pagewire/error.h"
#include "tools/children.h"
#include "tools/commands.h"
#include "tools/pipe.h"
#include "tools/private_folder.h"

namespace pagewire::tools {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kTrialMax{30};

const char* name_of(Health health) {
  constexpr const char* kNames[] = {"OK", "WARN", "FAIL"};
  return kNames[static_cast<std::size_t>(health)];
}

// Two nodes in processes of their own join over memif, share pages and leave.
Finding try_two_nodes(const std::string& config_file) {
  const PrivateFolder folder;
  Pipe err;
  Children children;
  for (int id = 0; id < 2; ++id) {
    std::vector<std::string> arguments = {"pagewire", "trial-node", fmt::format("--id={}", id),
                                          fmt::format("--folder={}", folder.path())};
    if (!config_file.empty()) arguments.push_back(fmt::format("--config={}", config_file));
    children.start(arguments, -1, err.writer(), -1);
  }
  err.close_writer();
  std::string complaint;
  std::optional<ChildEnd> failed;
  const Clock::time_point deadline = Clock::now() + kTrialMax;
  while (children.running_count() > 0 && !failed) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd waiting = {.fd = children.signal_fd(), .events = POLLIN, .revents = 0};
    if (left <= 0 || ::poll(&waiting, 1, static_cast<int>(left)) == 0) break;
    const Children::News news = children.take_news();
    complaint += err.take();
    if (news.signal != 0) throw Error("doctor", "interrupted", "Start it again");
    for (const ChildEnd& end : news.ends) {
      if (end.exit_code != kRight && !failed) failed = end;
    }
  }
  const bool in_time = children.running_count() == 0 || failed;
  children.stop_all();
  complaint += err.take();
  complaint.resize(std::min(complaint.find('\n'), complaint.size()));
  if (!failed && in_time)
    return {Health::kOk, "trial", "two nodes joined over memif, shared memory and left", {}};
  const std::string how = in_time ? text_of(*failed) : fmt::format("not done after {} s", kTrialMax.count());
  return {Health::kFail, "trial", complaint.empty() ? how : fmt::format("{}: {}", how, complaint),
          "See the lines above, or what the message says"};
}

void print_text(const std::vector<Finding>& findings) {
  std::size_t width = 0;
  for (const Finding& finding : findings) width = std::max(width, finding.what.size());
  for (const Finding& finding : findings) {
    fmt::print("{:<4}  {:<{}}  {}\n", name_of(finding.health), finding.what, width, finding.seen);
    if (!finding.remedy.empty()) fmt::print("{:<4}  {:<{}}  -> {}\n", "", "", width, finding.remedy);
  }
}

void print_json(const std::vector<Finding>& findings, bool could_start) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    checks.push_back({{"health", name_of(finding.health)},
                      {"what", finding.what},
                      {"seen", finding.seen},
                      {"remedy", finding.remedy}});
  }
  const nlohmann::ordered_json all = {{"a_node_could_start", could_start}, {"checks", checks}};
  fmt::print("{}\n", all.dump(2));
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
  std::vector<Finding> findings;
  std::optional<PrivateFolder> own_folder;
  Config config;
  bool readable = true;
  if (options.config_file.empty()) {
    own_folder.emplace();
    config = Config::local(0, 2, own_folder->path());
  } else {
    try {
      config = Config::from_file(options.config_file);
      findings.push_back({Health::kOk, "cluster file", options.config_file, {}});
    } catch (const Error& error) {
      readable = false;
      config = Config::local(0, 2, "");
      findings.push_back(
          {Health::kFail, "cluster file", error.what_failed() + ": " + error.seen(), error.remedy()});
    }
  }
  for (const auto check : {check_userfaultfd, check_memory, check_drivers, check_network, check_cores,
                           check_real_time, check_region_addresses}) {
    std::ranges::move(check(config), std::back_inserter(findings));
  }
  findings.push_back(try_two_nodes(readable ? options.config_file : ""));
  const bool could_start =
      std::ranges::none_of(findings, [](const Finding& finding) { return finding.health == Health::kFail; });
  if (options.json) {
    print_json(findings, could_start);
  } else {
    print_text(findings);
    fmt::print("\n{}\n", could_start ? "A node could start here." : "A node could NOT start here.");
  }
  std::fflush(stdout);
  return could_start ? kRight : kFailed;
}

}  // namespace pagewire::tools
