// N nodes' engines in one process over a ring mesh, each with its own mapping of the regions: what the tests
// of the real loop share. One thread builds it, opens regions and tears it down; barrier() is for one thread
// a node.
#pragma once

#include <gtest/gtest.h>
#include <rte_mempool.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dataplane/eal.h"
#include "dataplane/engine.h"
#include "dataplane/ring_port.h"

namespace pagewire::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t kRegionBase =
    0x10'0000'0000;  // in the low memory that TSan leaves to the program
inline constexpr std::uint64_t kNodeSpacing = 0x1000'0000;
#else
inline constexpr std::uint64_t kRegionBase = 0x2000'0000'0000;
inline constexpr std::uint64_t kNodeSpacing = 0x100'0000'0000;
#endif
inline constexpr auto kPatience =
    std::chrono::seconds(60);  // for what must come; nobody waits so long unless it failed

// Polls until it holds, for what is published by a loop and rings no bell.
inline bool eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

// Threads that hang cannot be joined: says so and ends the program.
[[noreturn]] inline void give_up(const char* what) {
  std::fprintf(stderr, "%s: not within %lld s\n", what, static_cast<long long>(kPatience.count()));
  std::abort();
}
// As eventually(), where going on without it makes no sense.
inline void require_soon(const char* what, const std::function<bool()>& holds) {
  if (!eventually(holds)) give_up(what);
}

// Another one each run, printed; PAGEWIRE_SEED=n in the environment repeats a run, as far as threads allow.
inline std::uint64_t seed_of_this_run() {
  const char* const given = std::getenv("PAGEWIRE_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "[     seed ] " << seed << std::endl;
  ::testing::Test::RecordProperty("seed", std::to_string(seed));
  return seed;
}

inline std::shared_ptr<dataplane::Eal> ring_eal() {
  return dataplane::Eal::start({.memory_mb = 256, .hugepages = dataplane::Hugepages::kNo});
}

// A port in front of another, for what differs from it.
class OtherPort : public dataplane::Port {
 public:
  explicit OtherPort(std::unique_ptr<dataplane::Port> inner) : inner_(std::move(inner)) {}
  std::uint16_t queue_count() const override { return inner_->queue_count(); }
  bool keeps_queue() const override { return inner_->keeps_queue(); }
  bool has_multicast() const override { return inner_->has_multicast(); }
  std::uint32_t frame_bytes_max() const override { return inner_->frame_bytes_max(); }
  std::uint16_t receive(std::uint16_t queue, std::span<rte_mbuf*> out) override {
    return inner_->receive(queue, out);
  }
  void send(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override {
    inner_->send(queue, to, frame);
  }
  void send_quietly(std::uint16_t queue, protocol::NodeSet to, rte_mbuf* frame) override {
    inner_->send_quietly(queue, to, frame);
  }
  void ring(std::uint16_t queue, protocol::NodeSet nodes) override { inner_->ring(queue, nodes); }
  void flush(std::uint16_t queue) override { inner_->flush(queue); }
  std::vector<int> wake_fds(std::uint16_t queue) const override { return inner_->wake_fds(queue); }
  std::uint64_t nap_ns_max() const override { return inner_->nap_ns_max(); }
  void arm(std::uint16_t queue) override { inner_->arm(queue); }
  void arm_for_urgent(std::uint16_t queue) override { inner_->arm_for_urgent(queue); }
  void disarm(std::uint16_t queue) override { inner_->disarm(queue); }
  void drain(std::uint16_t queue) override { inner_->drain(queue); }
  rte_mempool* pool(std::uint16_t queue) const override { return inner_->pool(queue); }
  dataplane::PortCounters counters(std::uint16_t queue) const override { return inner_->counters(queue); }
  protocol::NodeSet connected() const override { return inner_->connected(); }
  void close() override { inner_->close(); }

 protected:
  dataplane::Port& inner() { return *inner_; }

 private:
  std::unique_ptr<dataplane::Port> inner_;
};

// Carries shorter frames than the one behind it, so that pages travel as fragments.
class NarrowPort final : public OtherPort {
 public:
  NarrowPort(std::unique_ptr<dataplane::Port> inner, std::uint32_t frame_bytes_max)
      : OtherPort(std::move(inner)), frame_bytes_max_(frame_bytes_max) {}
  std::uint32_t frame_bytes_max() const override { return frame_bytes_max_; }

 private:
  std::uint32_t frame_bytes_max_;
};

// Who takes faults and who drives loops: what the tests of the loop are run with.
struct Way {
  fault::Delivery delivery = fault::Delivery::kThread;
  dataplane::LoopKind loop_kind = dataplane::LoopKind::kShared;
};
inline constexpr Way kWays[] = {{fault::Delivery::kThread, dataplane::LoopKind::kShared},
                                {fault::Delivery::kThread, dataplane::LoopKind::kSelf},
                                {fault::Delivery::kInline, dataplane::LoopKind::kShared},
                                {fault::Delivery::kInline, dataplane::LoopKind::kSelf}};
inline std::string name_of(Way way) {
  return std::string(way.delivery == fault::Delivery::kInline ? "inline" : "thread") +
         (way.loop_kind == dataplane::LoopKind::kSelf ? "_self" : "_shared");
}

struct ClusterOptions {
  std::uint32_t nodes = 2;
  std::uint32_t loops = 1;
  std::uint64_t hold_ns = 20'000;
  std::uint64_t retry_ns = 2'000'000;
  std::uint64_t retry_ns_max = 20'000'000;
  std::size_t round_count = 512;
  dataplane::LoopKind loop_kind = dataplane::LoopKind::kShared;
  fault::Delivery delivery = fault::Delivery::kThread;  // of regions that do not say
  bool scan_ahead = true;
  bool hand_on = true;
  // What goes between a node and its ring port.
  std::function<std::unique_ptr<dataplane::Port>(std::unique_ptr<dataplane::Port>, std::uint32_t node)> wrap =
      {};
};

inline dataplane::EngineOptions engine_options(const ClusterOptions& options, std::uint32_t node) {
  dataplane::EngineOptions engine;
  engine.cluster = 0xc1a57e12;
  engine.self = protocol::NodeId{static_cast<std::uint8_t>(node)};
  engine.node_count = options.nodes;
  engine.loop_cores.assign(options.loops, -1);
  engine.region_base = kRegionBase;
  engine.map_base = kRegionBase + node * kNodeSpacing;
  engine.silence_ns = 2'000'000'000;
  engine.hold_ns = options.hold_ns;
  engine.retry_ns = options.retry_ns;
  engine.retry_ns_max = options.retry_ns_max;
  engine.round_count = options.round_count;
  engine.loop_kind = options.loop_kind;
  engine.scan_ahead = options.scan_ahead;
  engine.hand_on = options.hand_on;
  return engine;
}

class RingCluster {
 public:
  explicit RingCluster(const ClusterOptions& options) : options_(options) {
    auto ports =
        dataplane::make_ring_mesh(ring_eal(), options.nodes, static_cast<std::uint16_t>(options.loops));
    for (std::uint32_t node = 0; node < options.nodes; ++node) {
      for (std::uint32_t loop = 0; loop < options.loops; ++loop) {
        pools_.push_back(ports[node]->pool(static_cast<std::uint16_t>(loop)));
      }
      auto port = options.wrap ? options.wrap(std::move(ports[node]), node) : std::move(ports[node]);
      engines_.push_back(std::make_unique<dataplane::Engine>(engine_options(options, node), std::move(port)));
    }
    for (auto& engine : engines_) {
      EXPECT_TRUE(wait(*engine, [](const protocol::Control& state) { return state.joined(); })) << "no join";
    }
    for (auto& engine : engines_) engine->set_joined();
  }
  ~RingCluster() {
    for (auto& engine : engines_) engine->stop();
  }
  RingCluster(const RingCluster&) = delete;
  RingCluster& operator=(const RingCluster&) = delete;

  std::uint32_t size() const { return options_.nodes; }
  dataplane::Engine& engine(std::size_t node) { return *engines_[node]; }

  // Opens a region on all nodes; its state on each, empty if they do not agree.
  std::vector<dataplane::RegionState*> open(const std::string& name, std::size_t pages,
                                            protocol::Placement placement = protocol::Placement::kCyclic,
                                            std::uint8_t placement_node = 0,
                                            std::optional<fault::Delivery> delivery = {}) {
    using State = protocol::Control::RegionState;
    protocol::RegionDeclaration wanted;
    wanted.set_name(name);
    wanted.bytes = pages * protocol::kPageBytes;
    wanted.placement = placement;
    wanted.placement_node = placement_node;
    std::vector<std::size_t> slots;
    for (auto& engine : engines_) {
      slots.push_back(
          engine->control().change([&](protocol::Control& state) { return state.declare(wanted); }));
    }
    const auto all_reach = [&](State least) {
      bool all = true;
      for (std::size_t node = 0; node < engines_.size(); ++node) {
        all &= wait(*engines_[node],
                    [&](const protocol::Control& state) { return state.region_state(slots[node]) >= least; });
      }
      return all;
    };
    if (!all_reach(State::kAgreed)) return {};
    std::vector<dataplane::RegionState*> regions;
    for (std::size_t node = 0; node < engines_.size(); ++node) {
      dataplane::ControlPlane& control = engines_[node]->control();
      const auto agreed = control.with([&](protocol::Control& state) { return state.region(slots[node]); });
      regions.push_back(&engines_[node]->serve(agreed, delivery.value_or(options_.delivery)));
      control.change([&](protocol::Control& state) { return state.set_active(slots[node]), true; });
    }
    return all_reach(State::kAllActive) ? regions : std::vector<dataplane::RegionState*>{};
  }

  // False if not all came.
  bool barrier(std::size_t node) {
    dataplane::ControlPlane& control = engines_[node]->control();
    const auto count = control.change([](protocol::Control& state) { return state.arrive_at_barrier(); });
    return wait(*engines_[node], [&](const protocol::Control& state) { return state.barrier_passed(count); });
  }

  // Runs f(node, thread) on so many threads a node and waits for them.
  template <typename F>
  void on_all(F&& f, std::size_t threads_a_node = 1) {
    std::vector<std::thread> threads;
    for (std::size_t node = 0; node < engines_.size(); ++node) {
      for (std::size_t thread = 0; thread < threads_a_node; ++thread) {
        threads.emplace_back([&f, node, thread] { f(node, thread); });
      }
    }
    for (std::thread& thread : threads) thread.join();
  }

  // All leave at once, as nodes do at the end of a program; false if one of them ran out of time.
  bool leave() {
    const auto before = std::chrono::steady_clock::now();
    on_all([&](std::size_t node, std::size_t) {
      engines_[node]->leave(static_cast<std::uint64_t>(std::chrono::nanoseconds(kPatience).count()));
    });
    return std::chrono::steady_clock::now() - before < kPatience;
  }

  std::size_t mbufs_in_use() const {
    std::size_t count = 0;
    for (const rte_mempool* pool : pools_) count += rte_mempool_in_use_count(pool);
    return count;
  }
  // At rest every mbuf is back, but for the moments in which a beat is on its way.
  bool mbufs_come_back() const {
    return eventually([&] { return mbufs_in_use() == 0; });
  }

 private:
  static bool wait(dataplane::Engine& engine, const std::function<bool(const protocol::Control&)>& done) {
    return engine.wait_until(dataplane::ControlPlane::Clock::now() + kPatience, done);
  }

  ClusterOptions options_;
  std::vector<const rte_mempool*> pools_;
  std::vector<std::unique_ptr<dataplane::Engine>> engines_;
};

// The first word of a page, as what services share.
inline std::atomic<std::uint64_t>& word_of(const dataplane::RegionState& region, std::size_t page) {
  return *reinterpret_cast<std::atomic<std::uint64_t>*>(region.memory.application_view() +
                                                        page * protocol::kPageBytes);
}

// Adds one, `adds` times by each thread, to a word that all want and to one of the others in turn; after a
// barrier every node must see every one of them.
inline void expect_exact_counts(RingCluster& cluster, const std::vector<dataplane::RegionState*>& regions,
                                std::uint64_t adds, std::size_t threads_a_node = 1) {
  const std::size_t others = regions[0]->pages.size() - 1;
  cluster.on_all(
      [&](std::size_t node, std::size_t) {
        for (std::uint64_t i = 0; i < adds; ++i) {
          word_of(*regions[node], 0).fetch_add(1);
          word_of(*regions[node], 1 + i % others).fetch_add(1);
        }
      },
      threads_a_node);
  cluster.on_all([&](std::size_t node, std::size_t) {
    EXPECT_TRUE(cluster.barrier(node));
    std::uint64_t sum = 0;
    for (std::size_t page = 1; page <= others; ++page) sum += word_of(*regions[node], page).load();
    EXPECT_EQ(word_of(*regions[node], 0).load(), adds * threads_a_node * cluster.size()) << "node " << node;
    EXPECT_EQ(sum, adds * threads_a_node * cluster.size()) << "node " << node;
    EXPECT_TRUE(cluster.barrier(node));
  });
}

}  // namespace pagewire::test
