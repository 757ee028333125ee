// Joining, opening regions, barriers. Threads of the service.
#include <algorithm>
#include <chrono>
#include <utility>

#include "fault/setup_error.h"
#include "pagewire/node_impl.h"
#include "pagewire/port_choice.h"

namespace pagewire {

namespace {

using dataplane::ControlPlane;
using protocol::Control;
using protocol::RegionDeclaration;

std::chrono::steady_clock::time_point after_ms(std::uint64_t ms) {
  return ControlPlane::Clock::now() + std::chrono::milliseconds(ms);
}

dataplane::EngineOptions engine_options(const Config& config) {
  dataplane::EngineOptions options;
  options.cluster = cluster_number(config.cluster);
  options.self = protocol::NodeId{static_cast<std::uint8_t>(config.node)};
  options.node_count = static_cast<std::uint32_t>(config.nodes.size());
  options.loop_cores = config.loop_cores.empty() ? std::vector<int>(config.loops, -1) : config.loop_cores;
  options.region_base = config.region_base;
  options.map_base = config.region_base;
  options.kernel_faults = static_cast<fault::KernelFaults>(config.kernel_faults);
  options.silence_ns = config.silence_timeout_ms * 1'000'000;
  options.retry_ns = config.retry_us * 1'000;
  options.retry_ns_max = config.retry_max_us * 1'000;
  options.hold_ns = config.hold_us * 1'000;
  options.scan_ahead = config.scan_ahead;
  options.hand_on = config.hand_on;
  options.real_time = config.real_time;
  options.loop_kind = static_cast<dataplane::LoopKind>(config.loop_kind);
  return options;
}

std::string describe(const RegionDeclaration& region) {
  static constexpr const char* kPlacements[] = {"cyclic", "block", "first touch", "one node"};
  std::string text = std::to_string(region.bytes) + " bytes, placement " +
                     kPlacements[static_cast<std::size_t>(region.placement)];
  if (region.placement == protocol::Placement::kOneNode) text += " " + std::to_string(region.placement_node);
  return text;
}

void check(const RegionOptions& options, const Config& config) {
  if (options.name.empty() || options.name.size() > protocol::kRegionNameMax) {
    throw Error(
        "cannot open a region",
        "its name \"" + options.name + "\" has " + std::to_string(options.name.size()) + " characters",
        "Give it 1 to 48");
  }
  if (options.bytes == 0 || options.bytes > (std::size_t{1} << 40)) {
    throw Error("cannot open region \"" + options.name + "\"",
                "size " + std::to_string(options.bytes) + " bytes", "Ask for 1 byte to 1 TiB");
  }
  if (options.placement == Placement::kOneNode && options.placement_node >= config.nodes.size()) {
    throw Error("cannot open region \"" + options.name + "\"",
                "placement_node " + std::to_string(options.placement_node),
                "The cluster has nodes 0 to " + std::to_string(config.nodes.size() - 1));
  }
}

}  // namespace

std::string name_nodes(protocol::NodeSet nodes) {
  std::string text = nodes.size() == 1 ? "node " : "nodes ";
  const char* separator = "";
  nodes.for_each([&](protocol::NodeId node) {
    text += separator + std::to_string(node.value);
    separator = ", ";
  });
  return text;
}

Node::Impl::Impl(Config settings) : config(std::move(settings)) {
  config.validate();
  try {
    OpenedPort opened = open_port(config);
    port_bytes = opened.memory_bytes;
    engine = std::make_unique<dataplane::Engine>(engine_options(config), std::move(opened.port));
  } catch (const fault::SetupError& error) {
    throw Error(error.what_failed(), error.seen(), error.remedy());
  }
  join();
}

Node::Impl::~Impl() {
  engine->leave(config.leave_timeout_ms * 1'000'000);
  engine->stop();
}

void Node::Impl::join() {
  ControlPlane& control = engine->control();
  const bool there = engine->wait_until(after_ms(config.join_timeout_ms), [](const Control& state) {
    return state.joined() || state.differing() != protocol::kNoNode;
  });
  const auto differing = control.with([](Control& state) { return state.differing(); });
  if (differing != protocol::kNoNode) fail_differing(differing);
  if (!there) {
    const auto missing = control.with([](Control& state) { return state.missing(); });
    throw Error(
        "cannot join cluster \"" + config.cluster + "\"",
        name_nodes(missing) + " did not come within " + std::to_string(config.join_timeout_ms) + " ms",
        "Start them, with the same cluster name and node list, or raise timeouts.join_ms");
  }
  engine->set_joined();
}

void Node::Impl::fail_differing(protocol::NodeId node) const {
  const protocol::Beat theirs = engine->control().with([&](Control& state) { return state.beat_of(node); });
  const auto text = [](std::uint64_t nodes, std::uint64_t loops, std::uint64_t base) {
    return std::to_string(nodes) + " nodes, " + std::to_string(loops) + " loops, region base " +
           std::to_string(base);
  };
  throw Error("cannot join cluster \"" + config.cluster + "\"",
              "this node has " + text(config.nodes.size(), config.loops, config.region_base) + "; node " +
                  std::to_string(node.value) + " has " +
                  text(theirs.node_count, theirs.loop_count, theirs.region_base),
              "Give all nodes the same node list, loops.count and memory.region_base");
}

Region Node::Impl::open_region(const RegionOptions& options) {
  check(options, config);
  const std::lock_guard lock(open_mutex);
  RegionDeclaration wanted;
  wanted.set_name(options.name);
  wanted.bytes = options.bytes;
  wanted.placement = static_cast<protocol::Placement>(options.placement);
  wanted.placement_node = static_cast<std::uint8_t>(options.placement_node);
  if (const auto open = open_regions.find(options.name); open != open_regions.end()) {
    if (open->second.bytes() == options.bytes) return open->second;
    throw Error("cannot open region \"" + options.name + "\"",
                "asked for " + describe(wanted) + "; it is open here with " +
                    std::to_string(open->second.bytes()) + " bytes",
                "Open it with the same options, or under another name");
  }
  ControlPlane& control = engine->control();
  const auto deadline = after_ms(config.join_timeout_ms);
  const std::size_t slot = control.change([&](Control& state) { return state.declare(wanted); });
  if (slot == protocol::kRegionsMax) {
    throw Error("cannot open region \"" + options.name + "\"",
                "the cluster has " + std::to_string(slot) + " already", "Use fewer, larger regions");
  }
  const auto fail_unless = [&](Control::RegionState least) {
    const bool reached =
        engine->wait_until(deadline, [&](const Control& state) { return state.region_state(slot) >= least; });
    protocol::NodeId who = protocol::kNoNode;
    const auto theirs = control.with([&](Control& state) { return state.differing_region(slot, who); });
    if (who == protocol::kNoNode && reached) return;
    const auto missing = control.change([&](Control& state) {
      state.give_up(slot);
      return state.missing_in_region(slot);
    });
    if (who != protocol::kNoNode) {
      throw Error("cannot open region \"" + options.name + "\"",
                  "this node asked for " + describe(wanted) + ", node " + std::to_string(who.value) +
                      " for " + describe(theirs),
                  "Open it with the same size and options on every node");
    }
    throw Error(
        "cannot open region \"" + options.name + "\"",
        (missing.empty() ? "another node failed to map it" : name_nodes(missing) + " did not open it") +
            " within " + std::to_string(config.join_timeout_ms) + " ms",
        "Every node opens every region; or raise timeouts.join_ms");
  };
  fail_unless(Control::RegionState::kAgreed);
  auto impl = std::make_shared<Region::Impl>();
  try {
    impl->state = &engine->serve(control.with([&](Control& state) { return state.region(slot); }),
                                 static_cast<fault::Delivery>(options.delivery.value_or(config.delivery)));
  } catch (const fault::SetupError& error) {
    control.change([&](Control& state) { return state.give_up(slot), true; });
    throw Error(error.what_failed(), error.seen(), error.remedy());
  }
  control.change([&](Control& state) { return state.set_active(slot), true; });
  fail_unless(Control::RegionState::kAllActive);
  impl->node = this;
  impl->name = options.name;
  impl->bytes = options.bytes;
  impl->data = impl->state->memory.application_view();
  return open_regions.emplace(options.name, Region(std::move(impl))).first->second;
}

void Node::Impl::barrier() {
  const std::lock_guard lock(barrier_mutex);
  ControlPlane& control = engine->control();
  const std::uint64_t count = control.change([](Control& state) { return state.arrive_at_barrier(); });
  protocol::NodeSet lost;
  engine->wait_until(ControlPlane::Clock::time_point::max(), [&](const Control& state) {
    if (state.barrier_passed(count)) return true;
    const auto gone =
        protocol::NodeSet(state.silent(protocol::Time{dataplane::now_ns()}).bits() | state.leaving().bits());
    lost = state.behind_barrier(count).intersect(gone);
    return !lost.empty();
  });
  if (lost.empty()) return;
  throw Error("barrier " + std::to_string(count) + " cannot complete",
              name_nodes(lost) + " left or fell silent",
              "Start all nodes again; a cluster does not go on without a node yet");
}

Node::Node(const Config& config) : impl_(std::make_unique<Impl>(config)) {}
Node::~Node() = default;
Region Node::open_region(const RegionOptions& options) { return impl_->open_region(options); }
void Node::barrier() { impl_->barrier(); }
std::uint32_t Node::id() const { return impl_->config.node; }
std::uint32_t Node::size() const { return static_cast<std::uint32_t>(impl_->config.nodes.size()); }
Stats Node::stats() const { return collect_stats(*impl_, nullptr); }

}  // namespace pagewire
