#include "test/sim/simulator.h"

#include <utility>

namespace pagewire::sim {

using protocol::NodeId;
using protocol::NodeSet;
using protocol::PageEntry;
using protocol::Placement;

const Report& Simulator::run(std::uint64_t seed, std::uint64_t steps, Story* story) {
  story_ = story;
  start(seed, steps);
  while (report_.steps < steps && advance()) {
  }
  if (!report_.violation) check_all();
  if (!report_.violation) heal();
  finish();
  return report_;
}

void Simulator::start(std::uint64_t seed, std::uint64_t steps) {
  random_ = Random(seed);
  setting_ = draw_setting(random_);
  if (change_) change_(setting_);
  report_ = Report{};
  report_.seed = seed;
  report_.steps_asked = steps;
  report_.setting = setting_;
  report_.digest = seed;
  queue_.clear();
  network_.start(setting_, random_);
  now_ = 1'000'000;
  healing_ = false;
  last_value_ = 0;
  last_boot_ = random_.next() >> 1;
  view_ = 1;
  for (Node& node : nodes_) node = Node{};
  for (std::uint32_t n = 0; n < setting_.nodes; ++n) {
    nodes_[n].storage.resize(setting_.rounds);
    nodes_[n].deadlines.resize(setting_.rounds);
    nodes_[n].boot_id = ++last_boot_;
  }
  start_cluster();
  start_weather();
}

// All nodes at the beginning, in the lives and the view that are set.
void Simulator::start_cluster() {
  slots_.assign(std::size_t{setting_.pages} * kNodesMax, Slot{});
  given_up_.assign(setting_.pages, 0);
  stored_.assign(setting_.pages, ++last_value_);
  living_ = setting_.nodes;
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) {
    Node& node = nodes_[n];
    node.view = protocol::View{.self = NodeId{n},
                               .members = NodeSet::first(setting_.nodes),
                               .number = view_,
                               .retry_ns = setting_.retry_ns,
                               .retry_ns_max = setting_.retry_ns_max,
                               .grace_ns = setting_.grace_ns,
                               .hold_ns = setting_.hold_ns};
    node.rounds.emplace(node.storage, node.deadlines);
    node.timer_at = protocol::kNever.ns;
    ++node.timer_number;
    node.paused_until = 0;
    node.dead = false;
    known_boots_[n] = node.boot_id;
    for (std::uint32_t p = 0; p < setting_.pages; ++p) {
      const NodeId owner = protocol::initial_owner(setting_.placement, setting_.placement_node,
                                                   setting_.nodes, p, setting_.pages);
      Slot& at = slot(n, p);
      at.entry = protocol::initial_entry(NodeId{n}, owner, setting_.placement);
      at.value = stored_[p];
      at.memory.value = static_cast<std::uint8_t>(at.value);
    }
  }
  start_threads();
}

void Simulator::start_threads() {
  const std::uint32_t own = setting_.nodes * setting_.threads;
  threads_.assign(own + setting_.pages, Thread{});
  active_threads_ = 0;
  faults_in_rings_ = 0;
  for (std::uint32_t i = 0; i < own; ++i) {
    threads_[i].node = static_cast<std::uint8_t>(i / setting_.threads);
    queue_.push(now_ + random_.below(setting_.think_ns + 1), Event::Kind::kThread, threads_[i].node, i);
  }
  for (std::uint32_t i = own; i < threads_.size(); ++i) threads_[i].healing = true;
}

bool Simulator::advance() {
  if (queue_.empty()) return false;
  const Event event = queue_.pop();
  now_ = event.time;
  handle(event);
  return !report_.violation;
}

void Simulator::handle(const Event& event) {
  if (event.kind == Event::Kind::kWeather) {
    if (!healing_) befall(static_cast<Calamity>(event.what));
    return;
  }
  Node& node = nodes_[event.node];
  if (now_ < node.paused_until) {
    report_.counters.add(Counter::kPostponed);
    return queue_.push(node.paused_until, event.kind, event.node, event.what);
  }
  switch (event.kind) {
    case Event::Kind::kThread:
      if (!node.dead) thread_goes(event.what);
      break;
    case Event::Kind::kFault:
      --faults_in_rings_;
      if (!node.dead) take_fault(event);
      break;
    case Event::Kind::kDeliver:
      deliver(event);
      break;
    case Event::Kind::kTurn:
      if (!node.dead) take_turn(event.node, event.what);
      break;
    case Event::Kind::kTimer:
      if (!node.dead && event.what == node.timer_number) take_timer(event.node);
      break;
    case Event::Kind::kWeather:
      break;
  }
}

void Simulator::digest(std::uint64_t word) {
  report_.digest = (report_.digest ^ word) * 0x9e3779b97f4a7c15;
  report_.digest ^= report_.digest >> 29;
}

void Simulator::count_step(Event::Kind kind, std::uint64_t node, std::uint64_t page, std::uint64_t detail) {
  ++report_.steps;
  digest(now_);
  digest(static_cast<std::uint64_t>(kind) << 56 | node << 48 | page << 32 | (detail & 0xffffffff));
}

void Simulator::keep_events(std::uint8_t node) {
  for (std::size_t i = 0; i < protocol::kEvents; ++i) {
    report_.counters.protocol_events[i] += nodes_[node].rounds->events(static_cast<protocol::Event>(i));
  }
}

void Simulator::finish() {
  for (std::uint8_t n = 0; n < setting_.nodes; ++n) keep_events(n);
  report_.time_ns = now_ - 1'000'000;
}

void Simulator::tell(Line::Kind kind, std::uint8_t node, std::uint8_t from, std::optional<std::uint32_t> page,
                     std::string text) {
  story_->tell(Line{.kind = kind,
                    .step = report_.steps,
                    .time_ns = now_ - 1'000'000,
                    .node = node,
                    .from = from,
                    .page = page,
                    .text = std::move(text)});
}

}  // namespace pagewire::sim
