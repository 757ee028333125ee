// The program that end-to-end tests start once a node.
#include "test/e2e/node_main.h"

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <map>

namespace pagewire::e2e {

std::uint64_t sent(const Region& region, const std::string& type) {
  const Stats stats = region.stats();
  if (type.empty()) return stats.sent_message_count;
  for (const NamedCount& named : stats.sent_messages) {
    if (named.name == type) return named.count;
  }
  return 0;
}

namespace {

const std::map<std::string, std::function<void(Node&, const Arguments&)>> kScenarios = {
    {"counts", run_counts},       {"peterson", run_peterson},
    {"rows", run_rows},           {"big", run_big},
    {"dead_peer", run_dead_peer}, {"syscalls", run_syscalls},
    {"mismatch", run_mismatch},   {"blocked_at_end", run_blocked_at_end},
    {"multicast", run_multicast}, {"crowd", run_crowd},
    {"soak", run_soak},
};

void report_totals(const Node& node) {
  const Stats stats = node.stats();
  report("waiting", stats.waiting_fault_count);
  report("faults", stats.read_miss.count + stats.write_miss.count + stats.upgrade.count);
  report("p50_ns", stats.write_miss.p50_ns);
  report("fixed_bytes", stats.fixed_bytes);
  report("page_table_bytes", stats.page_table_bytes);
  report("sent_frames", stats.sent_frame_count);
  report("sent_multicasts", stats.sent_multicast_count);
  for (const NamedCount& named : stats.events) report("event." + named.name, named.count);
  for (const NamedCount& named : stats.dropped_frames) report("dropped." + named.name, named.count);
}

int run(int argc, char** argv) {
  CLI::App app("one node of an end-to-end test");
  Arguments arguments;
  std::uint32_t node = 0;
  std::uint32_t nodes = 1;
  std::string folder;
  std::string port = "memif";
  Config overrides;
  app.add_option("scenario", arguments.scenario)->required();
  app.add_option("--node", node);
  app.add_option("--nodes", nodes);
  app.add_option("--folder", folder);
  app.add_option("--port", port);
  app.add_option("--loops", overrides.loops);
  app.add_option("--drop", overrides.impairment.drop);
  app.add_option("--duplicate", overrides.impairment.duplicate);
  app.add_option("--reorder", overrides.impairment.reorder);
  app.add_option("--seed", overrides.impairment.seed);
  app.add_option("--retry-us", overrides.retry_us);
  app.add_option("--hold-us", overrides.hold_us);
  app.add_option("--silence-ms", overrides.silence_timeout_ms);
  app.add_option("--join-ms", overrides.join_timeout_ms);
  app.add_flag("!--no-scan-ahead", overrides.scan_ahead);
  app.add_flag_callback("--inline", [&] { overrides.delivery = Delivery::kInline; });
  overrides.loop_kind = LoopKind::kShared;
  app.add_flag_callback("--self", [&] { overrides.loop_kind = LoopKind::kSelf; });
  app.add_option("--count", arguments.count);
  app.add_option("--layout", arguments.layout);
  app.add_option("--threads", arguments.threads);
  app.add_option("--seconds", arguments.seconds);
  CLI11_PARSE(app, argc, argv);

  Config config = Config::local(node, nodes, folder);
  for (NodeDescription& description : config.nodes) description.port = port;
  config.loops = overrides.loops;
  config.scan_ahead = overrides.scan_ahead;
  config.delivery = overrides.delivery;
  config.loop_kind = overrides.loop_kind;
  config.impairment = overrides.impairment;
  config.retry_us = overrides.retry_us;
  config.hold_us = overrides.hold_us;
  config.silence_timeout_ms = overrides.silence_timeout_ms;
  config.join_timeout_ms = overrides.join_timeout_ms;
  arguments.config = config;
  try {
    Node joined(config);
    kScenarios.at(arguments.scenario)(joined, arguments);
    report_totals(joined);
  } catch (const Error& error) {
    std::printf("error=%s\n", error.what());
    return 3;
  }
  return 0;
}

}  // namespace
}  // namespace pagewire::e2e

int main(int argc, char** argv) {
  try {
    return pagewire::e2e::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 4;
  }
}
