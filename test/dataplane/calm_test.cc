// On a network that loses nothing nobody waits for a repetition: with repeats half a minute away, a wake-up
// that got lost, or a request that nobody kept, would show.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using protocol::Placement;
using test::RingCluster;
using test::word_of;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kRetryNs = 30'000'000'000;
constexpr auto kSoon = std::chrono::seconds(10);

class Calm : public ::testing::TestWithParam<test::Way> {
 protected:
  static test::ClusterOptions options(std::uint32_t nodes) {
    return {.nodes = nodes,
            .retry_ns = kRetryNs,
            .retry_ns_max = kRetryNs,
            .loop_kind = GetParam().loop_kind,
            .delivery = GetParam().delivery};
  }
  static void expect_nothing_repeated(RingCluster& cluster) {
    const auto repeated = static_cast<std::size_t>(protocol::Event::kRepeated);
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      for (const auto& loop : cluster.engine(node).loops()) {
        EXPECT_EQ(loop->counters().events[repeated].get(), 0U) << "node " << node;
      }
    }
  }
};
INSTANTIATE_TEST_SUITE_P(Ways, Calm, ::testing::ValuesIn(test::kWays),
                         [](const auto& info) { return test::name_of(info.param); });

// Who handed a page over sleeps through the acknowledgement; who wants it back finds that in time.
TEST_P(Calm, a_page_that_was_given_away__can_be_had_back_at_once) {
  RingCluster cluster(options(2));
  const auto regions = cluster.open("grid", 1, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  const auto before = Clock::now();
  for (std::uint64_t turn = 0; turn < 60; ++turn) {
    word_of(*regions[turn % 2], 0).fetch_add(1);
    if (turn % 3 != 0) continue;
    // Until a loop sleeps again, the acknowledgement unseen or not.
    const auto sleeps = [&](std::size_t node) {
      return cluster.engine(node).loops()[0]->counters().sleeps.get();
    };
    const std::uint64_t seen = sleeps(0) + sleeps(1);
    ASSERT_TRUE(test::eventually([&] { return sleeps(0) + sleeps(1) > seen; }));
  }
  EXPECT_EQ(word_of(*regions[0], 0).load(), 60U);
  EXPECT_LT(Clock::now() - before, kSoon);
  expect_nothing_repeated(cluster);
}

TEST_P(Calm, threads_that_crowd_a_few_pages__all_get_on) {
  constexpr std::uint32_t kNodes = 3;
  constexpr std::size_t kThreads = 2;
  constexpr std::size_t kPages = 4;
  constexpr std::uint64_t kAccesses = 1'500;
  RingCluster cluster(options(kNodes));
  const auto regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), kNodes);
  std::atomic<std::uint64_t> adds{0};
  const auto before = Clock::now();
  cluster.on_all(
      [&](std::size_t node, std::size_t thread) {
        std::mt19937_64 random(node * kThreads + thread);
        std::uint64_t mine = 0;
        for (std::uint64_t i = 0; i < kAccesses; ++i) {
          const std::size_t page = random() % kPages;
          if (random() % 2 == 0) {
            word_of(*regions[node], page).fetch_add(1);
            ++mine;
          } else {
            static_cast<void>(word_of(*regions[node], page).load());
          }
          if (random() % 64 == 0) std::this_thread::yield();
        }
        adds.fetch_add(mine);
      },
      kThreads);
  EXPECT_LT(Clock::now() - before, kSoon);
  std::uint64_t sum = 0;
  for (std::size_t page = 0; page < kPages; ++page) sum += word_of(*regions[0], page).load();
  EXPECT_EQ(sum, adds.load());
  expect_nothing_repeated(cluster);
}

// More threads wait than there are rounds, and than places where faults are left.
TEST_P(Calm, more_waiting_threads_than_rounds_and_places__all_are_served) {
  constexpr std::size_t kThreads = 100;
  test::ClusterOptions small = options(2);
  small.retry_ns = 2'000'000;  // a pool that is empty drops requests
  small.retry_ns_max = 20'000'000;
  small.round_count = 8;
  RingCluster cluster(small);
  const auto regions = cluster.open("grid", kThreads, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  std::atomic<std::size_t> ready{0};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      ready.fetch_add(1);
      while (ready.load() < kThreads) std::this_thread::yield();
      word_of(*regions[1], i).fetch_add(i + 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < kThreads; ++i) EXPECT_EQ(word_of(*regions[0], i).load(), i + 1);
}

}  // namespace
}  // namespace pagewire::dataplane
