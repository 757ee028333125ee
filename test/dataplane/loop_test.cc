// The real loop, several nodes in one process: totals are exact, what is asked for ahead comes, what is
// published can be read at any time, rest costs nothing, and the end is clean.
#include "dataplane/loop.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csetjmp>
#include <csignal>
#include <ctime>
#include <tuple>

#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using protocol::Access;
using protocol::NodeId;
using protocol::Permission;
using protocol::Placement;
using test::ClusterOptions;
using test::eventually;
using test::RingCluster;
using test::word_of;
using Regions = std::vector<RegionState*>;

constexpr std::size_t kPages = 40;  // three shards: both loops of two have work

std::uint64_t fault_count(const RegionState& region) {
  std::uint64_t count = 0;
  for (const RegionCounters& counters : region.counters) {
    for (const Histogram& latency : counters.latency) {
      HistogramSnapshot snapshot;
      snapshot.add(latency);
      count += snapshot.count();
    }
  }
  return count;
}

std::uint64_t waiting_count(const RegionState& region) {
  std::uint64_t count = 0;
  for (const RegionCounters& counters : region.counters) count += counters.waiting.get();
  return count;
}

bool all_pages_allow(const RegionState& region, Access access) {
  for (std::size_t page = 0; page < region.pages.size(); ++page) {
    const auto summary = region.pages[page].summary();
    if (!protocol::allows(summary.permission, access) || summary.unmapped) return false;
  }
  return true;
}

using CountCase = std::tuple<test::Way, std::uint32_t /*loops*/, std::uint64_t /*hold_ns*/>;
class LoopCounts : public ::testing::TestWithParam<CountCase> {};
INSTANTIATE_TEST_SUITE_P(Loops, LoopCounts,
                         ::testing::Combine(::testing::ValuesIn(test::kWays), ::testing::Values(1U, 2U),
                                            ::testing::Values(0U, 20'000U)),
                         [](const auto& info) {
                           return test::name_of(std::get<0>(info.param)) + "_" +
                                  std::to_string(std::get<1>(info.param)) + "_loops_hold_" +
                                  std::to_string(std::get<2>(info.param) / 1000) + "_us";
                         });

TEST_P(LoopCounts, three_nodes__are_exact) {
  const auto [way, loops, hold_ns] = GetParam();
  RingCluster cluster(
      {.nodes = 3, .loops = loops, .hold_ns = hold_ns, .loop_kind = way.loop_kind, .delivery = way.delivery});
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  // Without a hold a page may be taken away again before its thread has run: it ends, but may take its time.
  test::expect_exact_counts(cluster, regions, hold_ns == 0 ? 200 : 1'000);
  for (const RegionState* region : regions) {
    for (const RegionCounters& counters : region->counters) EXPECT_GT(counters.received_messages.get(), 0U);
    EXPECT_EQ(waiting_count(*region), 0U);
  }
  EXPECT_TRUE(cluster.mbufs_come_back());
  EXPECT_TRUE(cluster.leave());
}

// The same with faults and loops of each kind.
class LoopWays : public ::testing::TestWithParam<test::Way> {
 protected:
  static ClusterOptions with_way(ClusterOptions options) {
    options.loop_kind = GetParam().loop_kind;
    options.delivery = GetParam().delivery;
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Ways, LoopWays, ::testing::ValuesIn(test::kWays),
                         [](const auto& info) { return test::name_of(info.param); });

TEST_P(LoopWays, eight_threads_a_node__end_and_are_exact) {
  RingCluster cluster(with_way({.nodes = 3, .loops = 2}));
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  test::expect_exact_counts(cluster, regions, 150, 8);
  EXPECT_TRUE(cluster.mbufs_come_back());
}

TEST_P(LoopWays, plain_stores__are_seen_after_a_barrier) {
  RingCluster cluster(with_way({.nodes = 3}));
  const Regions regions = cluster.open("grid", kPages, Placement::kBlock);
  ASSERT_EQ(regions.size(), 3U);
  cluster.on_all([&](std::size_t node, std::size_t) {
    for (std::size_t page = node; page < kPages; page += 3) {
      std::byte* const bytes = regions[node]->memory.application_view() + page * protocol::kPageBytes;
      for (std::size_t i = 0; i < protocol::kPageBytes; ++i)
        bytes[i] = static_cast<std::byte>(page + i % 251);
    }
    EXPECT_TRUE(cluster.barrier(node));
    std::size_t wrong = 0;
    for (std::size_t page = 0; page < kPages; ++page) {
      const std::byte* const bytes = regions[node]->memory.application_view() + page * protocol::kPageBytes;
      for (std::size_t i = 0; i < protocol::kPageBytes; ++i) {
        wrong += bytes[i] == static_cast<std::byte>(page + i % 251) ? 0 : 1;
      }
    }
    EXPECT_EQ(wrong, 0U) << "node " << node;
    EXPECT_TRUE(cluster.barrier(node));
  });
}

TEST(Loop, system_calls__on_pages_that_are_elsewhere) {
  RingCluster cluster({.nodes = 2});
  const Regions regions = cluster.open("grid", 4, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), 2U);
  if (!regions[0]->memory.kernel_faults()) GTEST_SKIP() << "no right to the kernel's faults";
  constexpr std::size_t kBytes = 4 * protocol::kPageBytes;
  std::array<int, 2> pipe_ends{};
  ASSERT_EQ(pipe(pipe_ends.data()), 0);
  for (std::size_t page = 0; page < 4; ++page) word_of(*regions[1], page).store(page + 1);
  EXPECT_EQ(write(pipe_ends[1], regions[0]->memory.application_view(), kBytes), static_cast<ssize_t>(kBytes));
  for (std::size_t page = 0; page < 4; ++page) word_of(*regions[0], page).store(0);
  EXPECT_EQ(read(pipe_ends[0], regions[1]->memory.application_view(), kBytes), static_cast<ssize_t>(kBytes));
  for (std::size_t page = 0; page < 4; ++page) EXPECT_EQ(word_of(*regions[0], page).load(), page + 1);
  for (const int end : pipe_ends) close(end);
}

TEST_P(LoopWays, prefetch__brings_pages_and_later_accesses_do_not_fault) {
  RingCluster cluster(with_way({.nodes = 3, .loops = 2}));
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[2], page).store(page + 1);
  cluster.engine(1).prefetch(*regions[1], 0, kPages, Access::kRead);
  ASSERT_TRUE(eventually([&] { return all_pages_allow(*regions[1], Access::kRead); }));
  const std::uint64_t faults = fault_count(*regions[1]);
  for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(word_of(*regions[1], page).load(), page + 1);
  EXPECT_EQ(fault_count(*regions[1]), faults);
  cluster.engine(1).prefetch(*regions[1], 3, 7, Access::kWrite);
  ASSERT_TRUE(eventually([&] {
    for (std::size_t page = 3; page < 10; ++page) {
      if (regions[1]->pages[page].summary().permission != Permission::kWrite) return false;
    }
    return true;
  }));
  EXPECT_EQ(regions[1]->pages[2].summary().permission, Permission::kRead);
  EXPECT_EQ(regions[1]->pages[10].summary().permission, Permission::kRead);
  EXPECT_EQ(regions[2]->pages[5].summary().permission, Permission::kInvalid);
  EXPECT_TRUE(cluster.mbufs_come_back());
}

TEST_P(LoopWays, prefetch__of_more_pages_than_there_are_rounds_ends) {
  RingCluster cluster(with_way({.nodes = 3, .loops = 2, .round_count = 8}));
  const Regions regions = cluster.open("grid", 500);
  ASSERT_EQ(regions.size(), 3U);
  for (std::size_t node = 0; node < 3; ++node) {
    cluster.engine(node).prefetch(*regions[node], 0, 500, Access::kWrite);
    ASSERT_TRUE(eventually([&] { return all_pages_allow(*regions[node], Access::kWrite); }))
        << "node " << node;
  }
  for (std::size_t node = 0; node < 3; ++node)
    cluster.engine(node).prefetch(*regions[node], 0, 500, Access::kRead);
  for (std::size_t node = 0; node < 3; ++node) {
    ASSERT_TRUE(eventually([&] { return all_pages_allow(*regions[node], Access::kRead); }))
        << "node " << node;
  }
  // While all nodes ask ahead for all pages, to write: faults find rounds all the same.
  for (std::size_t node = 0; node < 3; ++node)
    cluster.engine(node).prefetch(*regions[node], 0, 500, Access::kWrite);
  test::expect_exact_counts(cluster, regions, 600);
  EXPECT_TRUE(cluster.mbufs_come_back());
}

// What a reader may conclude from a summary at any moment, without a lock.
TEST(Loop, summary__can_be_read_while_the_loops_work) {
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);
  RingCluster cluster({.nodes = 3, .loops = 2});
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  std::atomic<bool> done{false};
  std::uint64_t reads = 0;
  std::uint64_t writer_without_ownership = 0;
  std::uint64_t fallen_versions = 0;
  std::uint64_t strange_hints = 0;
  std::thread reader([&] {
    std::vector<std::uint32_t> highest(3 * kPages, 0);
    while (!done.load()) {
      for (std::size_t node = 0; node < 3; ++node) {
        for (std::size_t page = 0; page < kPages; ++page) {
          const PageSummary seen = regions[node]->pages[page].summary();
          ++reads;
          writer_without_ownership += seen.permission == Permission::kWrite && !seen.owner ? 1 : 0;
          strange_hints += seen.hint.value >= 3 ? 1 : 0;
          std::uint32_t& before = highest[node * kPages + page];
          fallen_versions += seen.version < before ? 1 : 0;
          before = seen.version;
        }
      }
      std::this_thread::yield();
    }
  });
  test::expect_exact_counts(cluster, regions, 500);
  done.store(true);
  reader.join();
  EXPECT_GT(reads, 0U);
  EXPECT_EQ(writer_without_ownership, 0U);
  EXPECT_EQ(fallen_versions, 0U);
  EXPECT_EQ(strange_hints, 0U);
  for (std::size_t page = 0; page < kPages;
       ++page) {  // at rest: one owner a page, and what is published is the entry
    int owners = 0;
    for (RegionState* region : regions) {
      const PageSummary seen = region->pages[page].summary();
      const protocol::PageEntry& entry = region->pages[page].entry();
      owners += seen.owner ? 1 : 0;
      EXPECT_EQ(seen.permission, entry.permission);
      EXPECT_EQ(seen.version, entry.version.value);
      EXPECT_EQ(seen.under_way, entry.round != protocol::kNoRound);
    }
    EXPECT_EQ(owners, 1) << "page " << page;
  }
}

TEST(Loop, placement__block_and_one_node_and_cyclic) {
  RingCluster cluster({.nodes = 3, .hold_ns = 0});  // else who asks may be told to wait
  const Regions block = cluster.open("block", kPages, Placement::kBlock);
  const Regions one = cluster.open("one", kPages, Placement::kOneNode, 2);
  const Regions cyclic = cluster.open("cyclic", kPages);
  ASSERT_EQ(block.size() + one.size() + cyclic.size(), 9U);
  for (std::size_t node = 0; node < 3; ++node) {
    for (std::size_t page = 0; page < kPages; ++page) {
      EXPECT_EQ(block[node]->pages[page].summary().owner, page / 14 == node) << page;  // 14, 14 and 12
      EXPECT_EQ(one[node]->pages[page].summary().owner, node == 2) << page;
      EXPECT_EQ(cyclic[node]->pages[page].summary().owner, page % 3 == node) << page;
    }
  }
  // A page that is owned here is got at without a message.
  const auto sent = [&] {
    std::uint64_t count = 0;
    for (const Counter& type : one[2]->counters[0].sent_messages) count += type.get();
    return count;
  };
  for (std::size_t page = 0; page < kPages; ++page) word_of(*one[2], page).store(7);
  EXPECT_EQ(sent(), 0U);
  EXPECT_EQ(word_of(*one[0], kPages - 1).load(), 7U);
  EXPECT_EQ(sent(), 1U);
}

TEST(Loop, placement__first_touch_gives_the_page_to_who_asks_first) {
  RingCluster cluster({.nodes = 3});
  const Regions regions = cluster.open("touch", kPages, Placement::kFirstTouch);
  ASSERT_EQ(regions.size(), 3U);
  EXPECT_EQ(word_of(*regions[2], 0).load(), 0U);  // page 0 waits at node 0
  EXPECT_EQ(word_of(*regions[1], 1).load(), 0U);  // page 1 waits at node 1 itself
  word_of(*regions[0], 2).store(5);               // page 2 waits at node 2
  const std::size_t owner_of[] = {2, 1, 0};
  const auto settled = [&] {
    for (std::size_t page = 0; page < 3; ++page) {
      for (std::size_t node = 0; node < 3; ++node) {
        if (regions[node]->pages[page].summary().owner != (owner_of[page] == node)) return false;
      }
    }
    return true;
  };
  EXPECT_TRUE(eventually(settled));
  EXPECT_EQ(word_of(*regions[1], 0).load(), 0U);  // the second one to touch gets a copy
  EXPECT_EQ(word_of(*regions[1], 2).load(), 5U);
  EXPECT_TRUE(settled());
}

TEST_P(LoopWays, idle__a_node_at_rest_takes_next_to_no_time) {
  constexpr std::uint32_t kNodes = 3;
  RingCluster cluster(with_way({.nodes = kNodes, .loops = 2}));
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), kNodes);
  test::expect_exact_counts(cluster, regions, 50);
  ASSERT_TRUE(cluster.mbufs_come_back());
  const auto seconds_of = [](clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double wall = seconds_of(CLOCK_MONOTONIC);
  const double used = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
  std::this_thread::sleep_for(std::chrono::seconds(1));  // the time that is measured
  const double share = (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - used) / (seconds_of(CLOCK_MONOTONIC) - wall);
  EXPECT_LT(share / kNodes, 0.03) << "of a core, a node";
}

// An access whose SIGBUS is its result.
class BusCatcher {
 public:
  BusCatcher() {
    struct sigaction action {};
    action.sa_handler = [](int) { siglongjmp(resume_, 1); };
    action.sa_flags = SA_NODEFER;
    sigaction(SIGBUS, &action, &before_);
  }
  ~BusCatcher() { sigaction(SIGBUS, &before_, nullptr); }
  BusCatcher(const BusCatcher&) = delete;
  BusCatcher& operator=(const BusCatcher&) = delete;
  // True if the load raised SIGBUS, else `value` is what was read.
  static bool load_raises(const std::atomic<std::uint64_t>& word, std::uint64_t& value) {
    if (sigsetjmp(resume_, 1) != 0) return true;
    value = word.load();
    return false;
  }
  static bool store_raises(std::atomic<std::uint64_t>& word) {
    if (sigsetjmp(resume_, 1) != 0) return true;
    word.store(1);
    return false;
  }

 private:
  static thread_local sigjmp_buf resume_;
  struct sigaction before_ {};
};
thread_local sigjmp_buf BusCatcher::resume_;

TEST_P(LoopWays, stop__threads_that_wait_get_sigbus_and_no_zero) {
  const BusCatcher catcher;
  RingCluster cluster(with_way({.nodes = 2}));
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 2U);
  for (std::size_t page = 1; page < kPages; page += 2) word_of(*regions[1], page).store(99);
  cluster.engine(1).stop();  // nobody answers for these pages any more
  constexpr std::size_t kWaiting = 6;
  std::array<std::atomic<int>, kWaiting> raised{};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kWaiting; ++i) {  // two on each page, one of them writes
    std::atomic<std::uint64_t>& word = word_of(*regions[0], 1 + i / 2 * 2);
    threads.emplace_back([&raised, &word, i] {
      std::uint64_t value = 0;
      const bool bus = i % 2 == 0 ? BusCatcher::load_raises(word, value) : BusCatcher::store_raises(word);
      raised[i].store(bus ? 1 : 2);
    });
  }
  EXPECT_TRUE(eventually([&] { return waiting_count(*regions[0]) == kWaiting / 2; }));
  for (const auto& result : raised) EXPECT_EQ(result.load(), 0) << "went on without the page";
  cluster.engine(0).stop();
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : raised) EXPECT_EQ(result.load(), 1) << "read or wrote something";
}

TEST_P(LoopWays, stop__in_the_middle_of_the_work_ends) {
  const BusCatcher catcher;
  RingCluster cluster(with_way({.nodes = 3, .loops = 2, .hold_ns = 0}));
  const Regions regions = cluster.open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  std::vector<std::thread> threads;
  std::array<std::atomic<std::uint64_t>, 3> adds{};
  for (std::size_t node = 0; node < 3; ++node) {
    std::byte* const view = regions[node]->memory.application_view();
    threads.emplace_back([&adds, view, node] {
      for (std::size_t i = 0;; ++i) {
        auto& word = *reinterpret_cast<std::atomic<std::uint64_t>*>(view + i % kPages * protocol::kPageBytes);
        if (BusCatcher::store_raises(word)) return;
        adds[node].fetch_add(1);
      }
    });
  }
  EXPECT_TRUE(eventually([&] { return adds[0] > 200 && adds[1] > 200 && adds[2] > 200; }));
  for (std::size_t node = 0; node < 3; ++node) cluster.engine(node).stop();
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace pagewire::dataplane
