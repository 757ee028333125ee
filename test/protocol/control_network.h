// Several nodes' Control with a network between them that loses, doubles and overtakes by a seed, and one
// simulated clock.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "protocol/control.h"

namespace pagewire::protocol {

inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr std::uint64_t kSecond = 1'000 * kMs;
inline constexpr std::uint64_t kRegionBase = 0x2000'0000'0000;
inline constexpr std::uint64_t kAlign = 2 << 20;

struct Weather {
  unsigned drop_percent = 0;
  unsigned double_percent = 0;
  std::uint64_t delay_ns_max = 100'000;  // uniform from 1: frames overtake
};
inline constexpr Weather kFair{};
inline constexpr Weather kFoul{.drop_percent = 30, .double_percent = 15, .delay_ns_max = 8 * kMs};

// N nodes' Control, a network between them and one clock; one seed decides everything.
class ControlNetwork {
 public:
  ControlNetwork(std::uint32_t node_count, std::uint64_t seed, const Weather& weather)
      : weather_(weather), random_(seed) {
    for (std::uint32_t node = 0; node < node_count; ++node) {
      ControlSettings settings;
      settings.self = NodeId{static_cast<std::uint8_t>(node)};
      settings.members = NodeSet::first(node_count);
      settings.region_base = kRegionBase;
      nodes_.push_back(std::make_unique<Node>(settings));
    }
  }

  Control& operator[](std::size_t node) { return nodes_[node]->control; }
  std::size_t size() const { return nodes_.size(); }
  Time now() const { return now_; }
  std::uint64_t sent(std::size_t node) const { return nodes_[node]->sent; }
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

  // As the node's loop does after a change, or one cut off: tick() is called at the next step.
  void poke(std::size_t node) { nodes_[node]->due = Time{0}; }
  void start(std::size_t node) { nodes_[node]->running = true; }
  void start_all() {
    for (auto& node : nodes_) node->running = true;
  }
  void stop(std::size_t node) { nodes_[node]->running = false; }
  void set_weather(const Weather& weather) { weather_ = weather; }

  // Steps until `done`, or false after `for_ns` of the simulated clock. `each_step` looks on.
  bool run(std::uint64_t for_ns, const std::function<bool()>& done) {
    const Time end = now_.after(for_ns);
    while (!done()) {
      if (!step(end)) return done();
    }
    return true;
  }
  void run_for(std::uint64_t ns) {
    run(ns, [] { return false; });
  }
  bool all(const std::function<bool(Control&)>& holds) {
    return std::ranges::all_of(nodes_, [&](auto& node) { return !node->running || holds(node->control); });
  }
  bool join() {
    start_all();
    return run(20 * kSecond, [&] { return all([](Control& control) { return control.joined(); }); });
  }

 private:
  struct Node {
    explicit Node(const ControlSettings& settings) : control(settings, Time{0}) {}
    Control control;
    Time due{};
    bool running = false;
    std::uint64_t sent = 0;
  };
  struct InFlight {
    Time at;
    std::uint64_t order;
    NodeId from;
    NodeId to;
    ControlFrame frame;
    bool operator>(const InFlight& other) const {
      return std::tie(at, order) > std::tie(other.at, other.order);
    }
  };

  // One event: the earliest delivery or tick. False if it would come after `end`.
  bool step(Time end) {
    Time next = flying_.empty() ? kNever : flying_.top().at;
    std::size_t ticking = nodes_.size();
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i]->running && std::max(nodes_[i]->due, now_) < next) {
        next = std::max(nodes_[i]->due, now_);
        ticking = i;
      }
    }
    if (next > end) {
      now_ = end;
      return false;
    }
    now_ = std::max(now_, next);
    out_.clear();
    if (ticking < nodes_.size()) {
      nodes_[ticking]->due = nodes_[ticking]->control.tick(now_, out_);
      EXPECT_GT(nodes_[ticking]->due, now_) << "would tick without end";
      post(ticking);
    } else {
      const InFlight arrived = flying_.top();
      flying_.pop();
      deliver(arrived);
    }
    return true;
  }

  void deliver(const InFlight& arrived) {
    Node& to = *nodes_[arrived.to.value];
    if (!to.running) return;
    if (arrived.frame.is_region) {
      to.control.on_region(arrived.from, arrived.frame.region, now_, out_);
    } else {
      to.control.on_beat(arrived.from, arrived.frame.beat, now_, out_);
    }
    to.due = Time{0};
    post(arrived.to.value);
  }

  void post(std::size_t from) {
    for (const ControlFrame& frame : out_.all()) {
      ++nodes_[from]->sent;
      frame.to.for_each([&](NodeId to) {
        EXPECT_NE(to.value, from) << "sends to itself";
        EXPECT_LT(to.value, nodes_.size());
        if (random_() % 100 < weather_.drop_percent) return;
        const int copies = random_() % 100 < weather_.double_percent ? 2 : 1;
        for (int copy = 0; copy < copies; ++copy) {
          const Time at = now_.after(1 + random_() % weather_.delay_ns_max);
          flying_.push(InFlight{at, order_++, NodeId{static_cast<std::uint8_t>(from)}, to, frame});
        }
      });
    }
  }

  Weather weather_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::priority_queue<InFlight, std::vector<InFlight>, std::greater<>> flying_;
  ControlFrames out_;
  Time now_{};
  std::uint64_t order_ = 0;
};

inline RegionDeclaration wish(const std::string& name, std::uint64_t bytes) {
  RegionDeclaration declaration;
  declaration.set_name(name);
  declaration.bytes = bytes;
  return declaration;
}

// What a service's thread does to open a region: declare, wait for all, map, tell, wait for all.
struct Opening {
  std::size_t node;
  RegionDeclaration wanted;
  std::size_t slot = kRegionsMax;
  bool active = false;
  RegionDeclaration got{};

  void start(ControlNetwork& cluster) {
    slot = cluster[node].declare(wanted);
    cluster.poke(node);
  }
  bool done(ControlNetwork& cluster) {
    if (slot == kRegionsMax) return false;
    Control& control = cluster[node];
    if (!active && control.region_state(slot) == Control::RegionState::kAgreed) {
      got = control.region(slot);
      control.set_active(slot);
      cluster.poke(node);
      active = true;
    }
    return control.region_state(slot) == Control::RegionState::kAllActive;
  }
};

inline bool all_done(ControlNetwork& cluster, std::vector<Opening>& openings) {
  bool all = true;
  for (Opening& opening : openings) all &= opening.done(cluster);
  return all;
}

}  // namespace pagewire::protocol
