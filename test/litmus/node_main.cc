// The process of one node: joins the cluster, or maps the plain memory, and runs its cases.
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <sstream>

#include "pagewire/pagewire.h"
#include "test/litmus/campaign.h"
#include "test/litmus/node_run.h"

namespace pagewire::litmus {

namespace {

struct Arguments {
  NodeTask task;
  std::string folder;
  bool plain = false;
  Config overrides;
};

Case parse_case(const std::string& text) {
  std::istringstream parts(text);
  std::string shape;
  std::string order;
  std::string layout;
  std::getline(parts, shape, ':');
  std::getline(parts, order, ':');
  std::getline(parts, layout);
  return Case{.shape = index_of(shape_names(), shape).value(),
              .order = kOrders[index_of(kOrderNames, order).value()],
              .layout = kLayouts[index_of(kLayoutNames, layout).value()]};
}

// Threads on one core would take turns and hardly ever meet. The loops of the node, which are there already,
// stay free.
void pin_to_own_core(std::uint32_t node) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return;
  int nth = static_cast<int>(node) % CPU_COUNT(&allowed);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || nth-- > 0) continue;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(cpu, &own);
    sched_setaffinity(0, sizeof(own), &own);
    return;
  }
}

void run_all(const Arguments& arguments, Scaffold& scaffold, std::span<std::uint32_t> memory) {
  pin_to_own_core(arguments.task.node);
  NodeRun run(arguments.task, scaffold, memory);
  for (std::size_t i = 0; i < arguments.task.cases.size(); ++i) {
    run.run_case(i);
    if (arguments.task.node != 0) continue;
    std::printf("case%zu=1\n", i);
    std::fflush(stdout);
  }
}

void run_in_region(const Arguments& arguments, Scaffold& scaffold) {
  Config config = Config::local(arguments.task.node, arguments.task.node_count, arguments.folder);
  config.hold_us = arguments.overrides.hold_us;
  config.delivery = arguments.overrides.delivery;
  config.loop_kind = arguments.overrides.loop_kind;
  config.impairment = arguments.overrides.impairment;
  config.impairment.seed = arguments.task.seed;
  Node node(config);
  const Region region = node.open_region({.name = "litmus", .bytes = kMemoryBytes});
  run_all(arguments, scaffold, region.as<std::uint32_t>());
}

void run_in_plain_memory(const Arguments& arguments, Scaffold& scaffold) {
  const SharedFile file(arguments.folder + "/plain", kMemoryBytes);
  run_all(arguments, scaffold,
          {reinterpret_cast<std::uint32_t*>(file.data()), kMemoryBytes / sizeof(std::uint32_t)});
}

int run_checked(const Arguments& arguments) {
  std::optional<SharedScaffold> scaffold;
  try {
    scaffold.emplace(arguments.folder);
    if (arguments.plain) {
      run_in_plain_memory(arguments, **scaffold);
    } else {
      run_in_region(arguments, **scaffold);
    }
  } catch (const std::exception& error) {
    if (scaffold) (*scaffold)->failed.store(1);
    std::printf("error=%s\n", error.what());
    return 3;
  }
  return 0;
}

}  // namespace

int run_node(int argc, char** argv) {
  CLI::App app("one node of a litmus run");
  Arguments arguments;
  std::string command;
  std::vector<std::string> cases;
  std::string memory;
  app.add_option("command", command)->required();
  app.add_option("--node", arguments.task.node)->required();
  app.add_option("--nodes", arguments.task.node_count)->required();
  app.add_option("--folder", arguments.folder)->required();
  app.add_option("--cases", cases)->required()->delimiter(',');
  app.add_option("--iterations", arguments.task.iterations)->required();
  app.add_option("--seconds", arguments.task.seconds);
  app.add_option("--seed", arguments.task.seed);
  app.add_option("--memory", memory);
  app.add_option("--hold-us", arguments.overrides.hold_us);
  app.add_flag_callback("--inline", [&] { arguments.overrides.delivery = Delivery::kInline; });
  arguments.overrides.loop_kind = LoopKind::kShared;
  app.add_flag_callback("--self", [&] { arguments.overrides.loop_kind = LoopKind::kSelf; });
  app.add_option("--drop", arguments.overrides.impairment.drop);
  app.add_option("--duplicate", arguments.overrides.impairment.duplicate);
  app.add_option("--reorder", arguments.overrides.impairment.reorder);
  CLI11_PARSE(app, argc, argv);
  for (const std::string& text : cases) arguments.task.cases.push_back(parse_case(text));
  arguments.plain = memory == kMemoryNames[static_cast<std::size_t>(Memory::kPlain)];
  return run_checked(arguments);
}

}  // namespace pagewire::litmus
