// `pagewire node`: one node by a cluster file, to try a cluster by hand, on one host or on several.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>

#include "pagewire/error.h"
#include "pagewire/pagewire.h"
#include "tools/commands.h"
#include "tools/numbers.h"
#include "tools/self_check.h"
#include "tools/word_count.h"

namespace pagewire::tools {

namespace {

using Clock = std::chrono::steady_clock;

int stop_fd = -1;

void on_stop_signal(int /*signal*/) {
  const std::uint64_t one = 1;
  const ssize_t written = ::write(stop_fd, &one, sizeof one);
  static_cast<void>(written);
}

// From here on the first Ctrl-C asks to leave, the second one kills.
void listen_to_signals() {
  stop_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) throw Error("eventfd", std::strerror(errno), "Allow more open files (ulimit -n)");
  struct sigaction action = {};
  action.sa_handler = on_stop_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

// True if it is time to leave.
bool wait_until(Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting = {.fd = stop_fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::min<std::int64_t>(left, 1 << 30)));
    if (ready > 0) return true;
  }
}

void print_now(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

std::string who_is_there(const Config& config) {
  std::string text = fmt::format("cluster \"{}\", {} nodes:", config.cluster, config.nodes.size());
  for (const NodeDescription& node : config.nodes) {
    text += fmt::format(" {} ({}{})", node.id, node.port, node.id == config.node ? ", this one" : "");
  }
  return text;
}

std::string text_of(const Stats& stats, double seconds) {
  std::string text = fmt::format(
      "{:.0f} s: {} read misses, {} write misses, {} upgrades; sent {} page messages, {} frames, {}; "
      "received {} page "
      "messages",
      seconds, grouped(stats.read_miss.count), grouped(stats.write_miss.count), grouped(stats.upgrade.count),
      grouped(stats.sent_message_count), grouped(stats.sent_frame_count), bytes_text(stats.sent_bytes),
      grouped(stats.received_message_count));
  if (stats.waiting_fault_count > 0) text += fmt::format("; {} pages awaited", stats.waiting_fault_count);
  for (const NamedCount& dropped : stats.dropped_frames)
    text += fmt::format("; dropped {}: {}", dropped.name, dropped.count);
  if (!stats.silent_nodes.empty())
    text += fmt::format("; SILENT: node {}", fmt::join(stats.silent_nodes, ", "));
  return text;
}

int count_as_demo(Node& node, const std::optional<Expected>& expected) {
  Step last = Step::kStarting;
  const CountResult result =
      count_words(node, expected ? &*expected : nullptr, false, [&](Step step, std::uint32_t /*percent*/) {
        if (step != last) fmt::print(stderr, "{}\n", name_of(step));
        last = step;
      });
  if (node.id() == 0) fmt::print("{}", text_of(result));
  return result.right ? kRight : kFailed;
}

void stay(const Node& node, const NodeOptions& options) {
  const auto seconds = [](double value) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
  };
  const Clock::time_point start = Clock::now();
  const Clock::time_point end =
      options.seconds < 0 ? Clock::time_point::max() : start + seconds(options.seconds);
  for (Clock::time_point next = start;;) {
    next += seconds(options.every_seconds);
    const bool stop = wait_until(std::min(next, end));
    print_now(text_of(node.stats(), std::chrono::duration<double>(Clock::now() - start).count()));
    if (stop || Clock::now() >= end) return;
  }
}

}  // namespace

int run_node(const NodeOptions& options) {
  Config config = Config::from_file(options.config_file);
  if (options.id >= 0) config.node = static_cast<std::uint32_t>(options.id);
  config.validate();
  const bool counts = options.run == "demo";
  std::optional<Expected> expected;
  if (counts && config.node == 0) expected = prepare(options.files);
  fmt::print(stderr, "node {}: waiting for the others, at most {} s\n", config.node,
             static_cast<double>(config.join_timeout_ms) * 1e-3);
  Node node(config);
  print_now(fmt::format("node {}: joined {}", node.id(), who_is_there(config)));
  if (counts) return count_as_demo(node, expected);
  check_sharing(node);
  print_now("memory is shared: every node's additions arrived everywhere");
  listen_to_signals();
  stay(node, options);
  return kRight;
}

}  // namespace pagewire::tools
