// Pages that go from node to node in turns: the one store of a turn is carried out in the handler, and the
// page goes on; exact whatever a thread does with the page, and given up where it does not pay.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "dataplane/eal.h"
#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using test::RingCluster;
using test::word_of;

std::uint64_t handed_on(RingCluster& cluster) {
  std::uint64_t count = 0;
  for (std::size_t node = 0; node < cluster.size(); ++node) {
    for (const auto& loop : cluster.engine(node).loops()) count += loop->counters().handed_on.get();
  }
  return count;
}

test::ClusterOptions inline_nodes(std::uint32_t nodes) {
  return {.nodes = nodes, .loop_kind = LoopKind::kSelf, .delivery = fault::Delivery::kInline};
}

// The words of a page are apart, as std::atomic: [0] says whose turn it is.
std::atomic<std::uint64_t>& at(const RegionState& region, std::size_t page, std::size_t index) {
  return *(&word_of(region, page) + index);
}

// Each node waits for its turn, does what `in_turn` says, and gives the turn on with one store.
template <typename InTurn>
void take_turns(RingCluster& cluster, const std::vector<RegionState*>& regions, std::uint64_t turns,
                InTurn&& in_turn, std::size_t page = 0) {
  const std::uint64_t nodes = cluster.size();
  cluster.on_all([&](std::size_t node, std::size_t) {
    for (std::uint64_t turn = node; turn < turns * nodes; turn += nodes) {
      while (at(*regions[node], page, 0).load(std::memory_order_acquire) != turn) std::this_thread::yield();
      in_turn(*regions[node], turn);
      at(*regions[node], page, 0).store(turn + 1, std::memory_order_release);
    }
  });
}

class HandOn : public ::testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Nodes, HandOn, ::testing::Values(2U, 3U),
                         [](const auto& info) { return std::to_string(info.param); });

// With three nodes two wait for each turn: the page is read by many, which is not how a migratory one is
// used.
TEST_P(HandOn, turns_are_exact_and_pages_of_two_are_handed_on) {
  RingCluster cluster(inline_nodes(GetParam()));
  const auto regions = cluster.open("turns", 1);
  ASSERT_EQ(regions.size(), GetParam());
  constexpr std::uint64_t kTurns = 3'000;
  std::uint64_t sum = 0;  // no atomic: the turns order it
  take_turns(cluster, regions, kTurns, [&](RegionState&, std::uint64_t turn) { sum += turn; });
  const std::uint64_t all = kTurns * GetParam();
  EXPECT_EQ(sum, all * (all - 1) / 2);
  EXPECT_EQ(at(*regions[0], 0, 0).load(), all);
  if (GetParam() == 2) {
    EXPECT_GT(handed_on(cluster), all / 10);
  }
  EXPECT_TRUE(cluster.leave());
}

// What is stored in a turn besides goes along, on the page of the turn and on another; a turn is several
// stores then, and the first must not give it away for good.
TEST_P(HandOn, turns_of_several_stores_are_exact) {
  RingCluster cluster(inline_nodes(GetParam()));
  const auto regions = cluster.open("turns", 2);
  ASSERT_EQ(regions.size(), GetParam());
  constexpr std::uint64_t kTurns = 500;
  take_turns(cluster, regions, kTurns, [&](RegionState& region, std::uint64_t turn) {
    for (std::size_t i = 1; i < 5; ++i) {
      for (const std::size_t page : {std::size_t{0}, std::size_t{1}}) {
        std::atomic<std::uint64_t>& word = at(region, page, i);
        EXPECT_EQ(word.load(std::memory_order_relaxed), turn);
        word.store(turn + 1, std::memory_order_relaxed);
      }
    }
  });
  EXPECT_TRUE(cluster.leave());
}

TEST(HandOn, exchanges_in_turns_give_back_what_was_there) {
  RingCluster cluster(inline_nodes(2));
  const auto regions = cluster.open("turns", 1);
  ASSERT_EQ(regions.size(), 2U);
  constexpr std::uint64_t kTurns = 2'000;
  cluster.on_all([&](std::size_t node, std::size_t) {
    std::atomic<std::uint64_t>& word = at(*regions[node], 0, 0);
    for (std::uint64_t turn = node; turn < 2 * kTurns; turn += 2) {
      while (word.load() != turn) std::this_thread::yield();
      EXPECT_EQ(word.exchange(turn + 1), turn);
    }
  });
  EXPECT_TRUE(cluster.leave());
}

// Several threads of a node want the page: the turn of one must not take it from the others for ever.
TEST(HandOn, with_several_threads_a_node_all_get_on) {
  RingCluster cluster(inline_nodes(2));
  const auto regions = cluster.open("turns", 1);
  ASSERT_EQ(regions.size(), 2U);
  constexpr std::uint64_t kThreads = 3;
  constexpr std::uint64_t kTurns = 300;
  cluster.on_all(
      [&](std::size_t node, std::size_t thread) {
        std::atomic<std::uint64_t>& word = at(*regions[node], 0, 0);
        const std::uint64_t place = node * kThreads + thread;
        for (std::uint64_t turn = place; turn < 2 * kThreads * kTurns; turn += 2 * kThreads) {
          while (word.load() != turn) std::this_thread::yield();
          word.store(turn + 1);
        }
      },
      kThreads);
  EXPECT_EQ(at(*regions[0], 0, 0).load(), 2 * kThreads * kTurns);
  EXPECT_TRUE(cluster.leave());
}

TEST(HandOn, switched_off__nothing_is_handed_on) {
  test::ClusterOptions options = inline_nodes(2);
  options.hand_on = false;
  RingCluster cluster(options);
  const auto regions = cluster.open("turns", 1);
  ASSERT_EQ(regions.size(), 2U);
  take_turns(cluster, regions, 500, [](RegionState&, std::uint64_t) {});
  EXPECT_EQ(at(*regions[1], 0, 0).load(), 1'000U);
  EXPECT_EQ(handed_on(cluster), 0U);
  EXPECT_TRUE(cluster.leave());
}

// The request that is not rung for at once must be, in the end: after its last turn the node that has the
// page from us sleeps, and stores no more. Without that ring it would be found by chance, when a beat is due,
// a tenth of a second later.
TEST(HandOn, who_does_not_go_on_is_rung_for) {
  constexpr std::size_t kPages = 15;
  test::ClusterOptions options = inline_nodes(2);
  options.retry_ns = options.retry_ns_max = 20'000'000'000;  // no repetition helps
  RingCluster cluster(options);
  const auto regions = cluster.open("turns", kPages);
  ASSERT_EQ(regions.size(), 2U);
  std::vector<std::uint64_t> waits_ns;
  for (std::size_t page = 0; page < kPages; ++page) {
    take_turns(
        cluster, regions, 300, [](RegionState&, std::uint64_t) {}, page);
    const std::uint64_t start_ns = now_ns();
    EXPECT_EQ(at(*regions[0], page, 0).load(), 600U);
    waits_ns.push_back(now_ns() - start_ns);
  }
  std::ranges::sort(waits_ns);
  EXPECT_LT(waits_ns[kPages / 2], 30'000'000U);
  EXPECT_GT(handed_on(cluster), 0U);
  EXPECT_TRUE(cluster.leave());
}

}  // namespace
}  // namespace pagewire::dataplane
