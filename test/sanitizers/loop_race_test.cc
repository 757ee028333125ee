// The packet loop under ThreadSanitizer: the real engines of three nodes, each with two loops, a fault thread
// and real regions, on a wire that TSan sees all of (mutex_mesh.h). Threads of the service fault, ask ahead
// and read every figure meanwhile. This program's own copy of protocol/, fault/ and dataplane/ is compiled
// with -fsanitize=thread; see docs/proof.md for what that cannot see.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/engine.h"
#include "dataplane/histogram.h"
#include "protocol/control.h"
#include "test/dataplane/ring_cluster.h"
#include "test/proof/row.h"
#include "test/sanitizers/mutex_mesh.h"

namespace pagewire::test {
namespace {

using dataplane::Engine;
using dataplane::RegionState;
using protocol::Access;

constexpr std::uint32_t kNodes = 3;
constexpr std::uint32_t kLoops = 2;
constexpr std::size_t kPages = 80;  // five shards, so both loops have some

std::uint64_t times() { return std::getenv("PAGEWIRE_TEST_LONG") != nullptr ? 20 : 1; }

// A cluster on a mutex mesh. The ring ports that RingCluster makes are never used.
class MeshCluster {
 public:
  explicit MeshCluster(MutexMeshOptions options, std::uint64_t hold_ns = 20'000) : eal_(ring_eal()) {
    options.nodes = kNodes;
    options.queues = kLoops;
    mesh_ = std::make_unique<MutexMesh>(options);
    cluster_ = std::make_unique<RingCluster>(ClusterOptions{
        .nodes = kNodes,
        .loops = kLoops,
        .hold_ns = hold_ns,
        .round_count = 24,
        .wrap = [this](std::unique_ptr<dataplane::Port> inner, std::uint32_t node) {
          return mesh_->port(protocol::NodeId{static_cast<std::uint8_t>(node)}, std::move(inner));
        }});
  }

  RingCluster& operator*() { return *cluster_; }
  RingCluster* operator->() { return cluster_.get(); }
  bool mbufs_come_back() {
    return eventually([&] { return mesh_->mbufs_in_use() == 0; });
  }

 private:
  std::shared_ptr<dataplane::Eal> eal_;
  std::unique_ptr<MutexMesh> mesh_;
  std::unique_ptr<RingCluster> cluster_;
};

// Everything that any thread may read of a node; the sum keeps the reads.
std::uint64_t read_all(const Engine& engine) {
  std::uint64_t sum = engine.silent().size() + engine.loop_bytes();
  for (const auto& loop : engine.loops()) {
    const dataplane::LoopCounters& counters = loop->counters();
    for (const auto& dropped : counters.dropped) sum += dropped.get();
    for (const auto& event : counters.events) sum += event.get();
    sum += counters.no_mbuf.get() + counters.sleeps.get() + counters.hand_overs.get();
    sum += loop->has_unserved_faults() ? 1 : 0;
  }
  for (const RegionState* region : engine.regions()) {
    for (const dataplane::RegionCounters& counters : region->counters) {
      dataplane::HistogramSnapshot latency;
      for (const dataplane::Histogram& histogram : counters.latency) latency.add(histogram);
      sum += latency.count() + latency.quantile_ns(0.99) + latency.max_ns();
      for (const auto& sent : counters.sent_messages) sum += sent.get();
      sum += counters.sent_bytes.get() + counters.received_messages.get() + counters.waiting.get();
    }
    for (std::size_t page = 0; page < region->pages.size(); ++page)
      sum += region->pages[page].summary().version;
  }
  const dataplane::Port& port = engine.port();
  for (std::uint16_t queue = 0; queue < port.queue_count(); ++queue) {
    sum += port.counters(queue).sent_frame_count + port.counters(queue).received_bytes;
  }
  return sum;
}

// Threads that do f(node) again and again until it goes.
class Meanwhile {
 public:
  template <typename F>
  Meanwhile(RingCluster& cluster, F f) {
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      threads_.emplace_back([this, node, f] {
        do {
          f(node);
          turns_.fetch_add(1);
          std::this_thread::yield();
        } while (!done_.load());
      });
    }
  }
  ~Meanwhile() {
    done_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }
  Meanwhile(const Meanwhile&) = delete;
  Meanwhile& operator=(const Meanwhile&) = delete;
  std::uint64_t turns() const { return turns_.load(); }

 private:
  std::atomic<bool> done_{false};
  std::atomic<std::uint64_t> turns_{0};
  std::vector<std::thread> threads_;
};

std::uint64_t frames_lost(Engine& engine) {
  std::uint64_t lost = 0;
  for (std::uint16_t queue = 0; queue < kLoops; ++queue)
    lost += engine.port().counters(queue).send_dropped_count;
  return lost;
}

std::uint64_t messages_received(Engine& engine) {
  std::uint64_t count = 0;
  for (const RegionState* region : engine.regions()) {
    for (const dataplane::RegionCounters& counters : region->counters)
      count += counters.received_messages.get();
  }
  return count;
}

// Service threads add, ask ahead and read while regions come; `what` is for the proof's table.
void work(const MutexMeshOptions& options, const std::string& what) {
  MeshCluster cluster(options);
  const auto regions = cluster->open("grid", kPages);
  ASSERT_EQ(regions.size(), kNodes);
  {
    const Meanwhile readers(*cluster,
                            [&](std::size_t node) { EXPECT_GT(read_all(cluster->engine(node)), 0U); });
    const Meanwhile askers(*cluster, [&](std::size_t node) {
      cluster->engine(node).prefetch(*regions[node], static_cast<std::uint32_t>(node) * 16, 48,
                                     Access::kRead);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // a pace, not a wait
    });
    expect_exact_counts(*cluster, regions, 60 * times(), 2);
    // A region that comes while the loops are at work.
    const auto later = cluster->open("later", kPages);
    ASSERT_EQ(later.size(), kNodes);
    expect_exact_counts(*cluster, later, 20 * times(), 2);
    EXPECT_GT(readers.turns(), kNodes);
    EXPECT_GT(askers.turns(), kNodes);
  }
  std::uint64_t messages = 0;
  for (std::size_t node = 0; node < kNodes; ++node) {
    messages += messages_received(cluster->engine(node));
    EXPECT_EQ(frames_lost(cluster->engine(node)) > 0, options.lose_every != 0) << "node " << node;
  }
  EXPECT_TRUE(cluster.mbufs_come_back());
  EXPECT_TRUE(cluster->leave());
  proof::row("sanitizers", "TSan: 3 nodes with 2 loops each, " + what,
             std::to_string(messages) + " messages");
}

TEST(LoopRaces, whole_pages) { work({}, "whole pages"); }

TEST(LoopRaces, fragments_and_loss) {
  work({.lose_every = 37, .frame_bytes_max = 1514}, "fragments and loss");
}

// Loops are stopped, and what is between them is taken back, while all of it is on its way.
TEST(LoopRaces, stop_in_the_middle) {
  for (std::uint64_t i = 0; i < 4 * times(); ++i) {
    MeshCluster cluster({}, 0);
    const auto regions = cluster->open("grid", kPages);
    ASSERT_EQ(regions.size(), kNodes);
    cluster->on_all([&](std::size_t node, std::size_t) {
      for (int round = 0; round < 10; ++round) {
        cluster->engine(node).prefetch(*regions[node], 0, kPages, Access::kWrite);
        read_all(cluster->engine(node));
      }
      if (node == i % kNodes) cluster->engine(node).stop();
    });
  }
}

// ---- what TSan must report, each in a child of this program

// The page's entry is its loop's alone.
void read_an_entry_from_outside() {
  MeshCluster cluster({});
  const auto regions = cluster->open("grid", kPages);
  const Meanwhile readers(*cluster, [&](std::size_t node) {
    for (std::size_t page = 0; page < kPages; ++page) {
      if (regions[node]->pages[page].entry().version.value == ~std::uint64_t{0}) std::abort();
    }
  });
  expect_exact_counts(*cluster, regions, 100);
}

TEST(PlantedRaceDeathTest, entry_read_by_another_thread) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(read_an_entry_from_outside(), "data race.*pagewire::dataplane::Loop::");
}

TEST(PlantedRaceDeathTest, wire_without_its_lock) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(work({.forget_the_lock = true}, "without a lock"), "data race.*mutex_mesh[.]cc");
}

}  // namespace
}  // namespace pagewire::test
