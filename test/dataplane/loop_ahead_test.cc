// What the loop does ahead of need and for several pages at once, while threads use the same pages: nobody
// waits for ever, nobody reads what is old, no store is lost.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <random>
#include <ranges>
#include <thread>
#include <vector>

#include "dataplane/loop.h"
#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using protocol::Access;
using protocol::Permission;
using protocol::Placement;
using test::ClusterOptions;
using test::eventually;
using test::RingCluster;
using test::word_of;
using Regions = std::vector<RegionState*>;

class Ahead : public ::testing::TestWithParam<test::Way> {
 protected:
  static ClusterOptions with_way(ClusterOptions options) {
    options.loop_kind = GetParam().loop_kind;
    options.delivery = GetParam().delivery;
    return options;
  }
};
INSTANTIATE_TEST_SUITE_P(Ways, Ahead, ::testing::ValuesIn(test::kWays),
                         [](const auto& info) { return test::name_of(info.param); });

// Runs f(node, thread) as on_all does; a thread that hangs ends the program.
template <typename F>
void on_all_soon(RingCluster& cluster, const char* what, std::size_t threads_a_node, F&& f) {
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t working = cluster.size() * threads_a_node;
  std::thread all([&] {
    cluster.on_all(
        [&](std::size_t node, std::size_t thread) {
          f(node, thread);
          const std::scoped_lock lock(mutex);
          --working;
          changed.notify_one();
        },
        threads_a_node);
  });
  std::unique_lock lock(mutex);
  if (!changed.wait_for(lock, test::kPatience, [&] { return working == 0; })) test::give_up(what);
  lock.unlock();
  all.join();
}

std::uint64_t sum_of(const RegionState& region, Counter RegionCounters::*counter) {
  std::uint64_t sum = 0;
  for (const RegionCounters& counters : region.counters) sum += (counters.*counter).get();
  return sum;
}

// Pages from `first` on that are here, asked for because of a scan, and not mapped: their first touch will
// fault.
std::vector<std::size_t> pages_that_came_ahead(const RegionState& region, std::size_t first) {
  std::vector<std::size_t> pages;
  for (std::size_t page = first; page < region.pages.size(); ++page) {
    const PageSummary seen = region.pages[page].summary();
    if (seen.unmapped && protocol::allows(seen.permission, Access::kRead)) pages.push_back(page);
  }
  return pages;
}

// A scan of one's own pages grants Read ahead without mapping. A store to such a page is an upgrade of a page
// that no thread has ever mapped.
TEST_P(Ahead, own_pages_scanned_then_stored_to) {
  for (const std::uint32_t loops : {1U, 2U}) {
    RingCluster cluster(with_way({.nodes = 2, .loops = loops}));
    constexpr std::size_t kPages = 512;
    const Regions regions = cluster.open("grid", kPages, Placement::kOneNode, 0);
    ASSERT_EQ(regions.size(), 2U);
    on_all_soon(cluster, "a scan and then stores, by the owner", 1, [&](std::size_t node, std::size_t) {
      if (node != 0) return;
      std::uint64_t sum = 0;
      for (std::size_t page = 0; page < kPages / 2; ++page) sum += word_of(*regions[0], page).load();
      EXPECT_EQ(sum, 0U);
      for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[0], page).store(page + 1);
    });
    for (std::size_t page = 0; page < kPages; ++page) ASSERT_EQ(word_of(*regions[1], page).load(), page + 1);
  }
}

// The same while another node holds copies of some of them, and with loads and stores in turn.
TEST_P(Ahead, pages_scanned_by_all_then_stored_to_by_all) {
  RingCluster cluster(with_way({.nodes = 3, .loops = 2}));
  constexpr std::size_t kPages = 256;
  constexpr std::uint64_t kRounds = 4;
  const Regions regions = cluster.open("grid", kPages, Placement::kBlock);
  ASSERT_EQ(regions.size(), 3U);
  on_all_soon(cluster, "scans and stores", 1, [&](std::size_t node, std::size_t) {
    for (std::uint64_t round = 1; round <= kRounds; ++round) {
      for (std::size_t page = 0; page < kPages; ++page)
        EXPECT_EQ(word_of(*regions[node], page).load(), (round - 1) * 3);
      EXPECT_TRUE(cluster.barrier(node));
      for (std::size_t i = 0; i < kPages; ++i) {  // each in a direction of its own
        const std::size_t page = node == 1 ? kPages - 1 - i : (i + node * 70) % kPages;
        word_of(*regions[node], page).fetch_add(1);
      }
      EXPECT_TRUE(cluster.barrier(node));
    }
  });
  EXPECT_TRUE(cluster.mbufs_come_back());
}

// Pages that came for a scan are written by their owner before they were touched: what is read then is new.
TEST_P(Ahead, pages_that_came_ahead_are_taken_before_they_are_touched) {
  RingCluster cluster(with_way({.nodes = 2}));
  constexpr std::size_t kPages = 400;
  constexpr std::size_t kTouched = 40;
  constexpr std::size_t kBeyond =
      kTouched + 32;  // what comes before may be mapped together with a touched page
  const Regions regions = cluster.open("grid", kPages, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  std::uint64_t useless = 0;
  for (std::uint64_t round = 1; round <= 10; ++round) {
    for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[0], page).store(round * 1'000);
    for (std::size_t page = 0; page < kTouched; ++page)
      ASSERT_EQ(word_of(*regions[1], page).load(), round * 1'000);
    ASSERT_TRUE(eventually([&] { return !pages_that_came_ahead(*regions[1], kBeyond).empty(); }));
    const std::vector<std::size_t> taken = pages_that_came_ahead(*regions[1], kBeyond);
    for (const std::size_t page : taken) word_of(*regions[0], page).store(round * 1'000 + 1);
    for (const std::size_t page : taken) {
      EXPECT_FALSE(protocol::allows(regions[1]->pages[page].summary().permission, Access::kRead)) << page;
      EXPECT_EQ(word_of(*regions[1], page).load(), round * 1'000 + 1) << page;
    }
    EXPECT_GE(sum_of(*regions[1], &RegionCounters::ahead_useless), useless + taken.size());
    useless = sum_of(*regions[1], &RegionCounters::ahead_useless);
  }
  EXPECT_TRUE(cluster.mbufs_come_back());
}

TEST_P(Ahead, a_scan_finds_its_pages_here) {
  RingCluster cluster(with_way({.nodes = 2}));
  constexpr std::size_t kPages = 2'000;
  const Regions regions = cluster.open("grid", kPages, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[0], page).store(page);
  for (std::size_t page = 0; page < kPages; ++page) ASSERT_EQ(word_of(*regions[1], page).load(), page);
  const std::uint64_t useful = sum_of(*regions[1], &RegionCounters::ahead_useful);
  const std::uint64_t late = sum_of(*regions[1], &RegionCounters::ahead_late);
  EXPECT_GT(useful + late, kPages * 9 / 10);
  EXPECT_EQ(sum_of(*regions[1], &RegionCounters::ahead_useless), 0U);
}

TEST_P(Ahead, without_scan_ahead__no_page_comes_that_nobody_touched) {
  ClusterOptions options = with_way({.nodes = 2});
  options.scan_ahead = false;
  RingCluster cluster(options);
  const Regions regions = cluster.open("grid", 100, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 2U);
  for (std::size_t page = 0; page < 50; ++page) ASSERT_EQ(word_of(*regions[1], page).load(), 0U);
  EXPECT_TRUE(cluster.mbufs_come_back());
  for (std::size_t page = 0; page < 100; ++page) {
    EXPECT_EQ(regions[1]->pages[page].summary().permission == Permission::kRead, page < 50) << page;
  }
}

TEST_P(Ahead, prefetched_pages_are_taken_by_another_before_they_are_used) {
  RingCluster cluster(with_way({.nodes = 3, .loops = 2}));
  constexpr std::uint32_t kPages = 120;
  const Regions regions = cluster.open("grid", kPages, Placement::kOneNode, 0);
  ASSERT_EQ(regions.size(), 3U);
  for (std::uint64_t round = 1; round <= 10; ++round) {
    const Access access = round % 2 == 0 ? Access::kWrite : Access::kRead;
    cluster.engine(1).prefetch(*regions[1], 0, kPages, access);
    ASSERT_TRUE(eventually([&] {
      for (std::size_t page = 0; page < kPages; ++page) {
        if (!protocol::allows(regions[1]->pages[page].summary().permission, access)) return false;
      }
      return true;
    }));
    for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[2], page).fetch_add(1);
    for (std::size_t page = 0; page < kPages; ++page) {
      EXPECT_EQ(word_of(*regions[1], page).load(), 2 * round - 1) << page;
      word_of(*regions[1], page).fetch_add(1);
    }
  }
  EXPECT_TRUE(cluster.mbufs_come_back());
}

// Prefetches bring requests for neighbouring pages in bursts, so that access is withdrawn from runs of pages;
// local threads use these pages all the time. Each thread counts with plain stores in words of its own and
// with atomics in one that all share; a page taken from under it loses what it adds.
struct Burst {
  std::size_t pages;
  std::uint64_t rounds;
  std::size_t threads_a_node;
  bool read_too;
};

void expect_no_lost_store(RingCluster& cluster, const Regions& regions, const Burst& burst,
                          std::uint64_t seed) {
  constexpr std::size_t kWords = protocol::kPageBytes / sizeof(std::uint64_t);
  const auto own_word = [&](std::size_t node, std::size_t thread, std::size_t page) {
    std::atomic<std::uint64_t>* const words = &word_of(*regions[node], page);
    return words + (1 + node * burst.threads_a_node + thread) % kWords;
  };
  std::atomic<std::size_t> adding{cluster.size() * burst.threads_a_node};
  std::vector<std::thread> prefetchers;
  for (std::size_t node = 0; node < cluster.size(); ++node) {
    prefetchers.emplace_back([&, node] {
      std::mt19937_64 random(seed + node);
      while (adding.load() > 0) {
        const auto first = static_cast<std::uint32_t>(random() % burst.pages);
        const auto count =
            static_cast<std::uint32_t>(std::min<std::size_t>(burst.pages - first, 1 + random() % 64));
        const bool read = burst.read_too && random() % 2 == 0;
        cluster.engine(node).prefetch(*regions[node], first, count, read ? Access::kRead : Access::kWrite);
        std::this_thread::sleep_for(
            std::chrono::microseconds(random() % 2'000));  // the pace of the withdrawals
      }
    });
  }
  on_all_soon(cluster, "adding while pages are withdrawn in runs", burst.threads_a_node,
              [&](std::size_t node, std::size_t thread) {
                std::mt19937_64 random(seed * 31 + node * 7 + thread);
                for (std::uint64_t i = 0; i < burst.rounds; ++i) {
                  const std::size_t page = i % burst.pages;
                  std::atomic<std::uint64_t>* const own = own_word(node, thread, page);
                  for (std::uint64_t n = random() % 20; n > 0; --n) {  // plain: a mov each way
                    own->store(own->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
                    own->store(own->load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
                  }
                  own->store(own->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
                  word_of(*regions[node], page).fetch_add(1);
                }
                adding.fetch_sub(1);
              });
  for (std::thread& prefetcher : prefetchers) prefetcher.join();
  const std::uint64_t threads = cluster.size() * burst.threads_a_node;
  std::uint64_t wrong = 0;
  for (std::size_t page = 0; page < burst.pages; ++page) {
    const std::uint64_t each = burst.rounds / burst.pages + (page < burst.rounds % burst.pages ? 1 : 0);
    wrong += word_of(*regions[0], page).load() != each * threads ? 1 : 0;
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      for (std::size_t thread = 0; thread < burst.threads_a_node; ++thread)
        wrong += own_word(node, thread, page)->load() != each ? 1 : 0;
    }
  }
  EXPECT_EQ(wrong, 0U) << "words with lost stores, seed " << seed;
}

TEST_P(Ahead, runs_of_write_requests__lose_no_store) {
  const std::uint64_t seed = test::seed_of_this_run();
  RingCluster cluster(with_way({.nodes = 2}));
  const Regions regions = cluster.open("grid", 64);
  ASSERT_EQ(regions.size(), 2U);
  expect_no_lost_store(cluster, regions,
                       {.pages = 64, .rounds = 4'000, .threads_a_node = 1, .read_too = false}, seed);
  EXPECT_TRUE(cluster.mbufs_come_back());
}

TEST_P(Ahead, runs_of_copy_and_write_requests__lose_no_store) {
  const std::uint64_t seed = test::seed_of_this_run();
  RingCluster cluster(with_way({.nodes = 3, .loops = 2, .hold_ns = 0}));
  const Regions regions = cluster.open("grid", 100, Placement::kBlock);
  ASSERT_EQ(regions.size(), 3U);
  expect_no_lost_store(cluster, regions,
                       {.pages = 100, .rounds = 1'500, .threads_a_node = 2, .read_too = true}, seed);
  EXPECT_TRUE(cluster.mbufs_come_back());
}

// Requests that go to the same node share frames; what comes back, and what the owner withdraws for them, is
// as ever. With narrow frames fewer fit one.
TEST_P(Ahead, requests_for_many_pages__share_frames) {
  for (const bool narrow : {false, true}) {
    constexpr std::uint32_t kPages = 96;
    ClusterOptions options = with_way({.nodes = 2, .loops = 2});
    options.wrap = [&](std::unique_ptr<Port> port, std::uint32_t) -> std::unique_ptr<Port> {
      if (!narrow) return port;
      return std::make_unique<test::NarrowPort>(std::move(port), 400);
    };
    RingCluster cluster(options);
    const Regions regions = cluster.open("grid", kPages, Placement::kOneNode, 0);
    ASSERT_EQ(regions.size(), 2U);
    for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[0], page).store(page + 1);
    for (const Access access : {Access::kRead, Access::kWrite}) {
      // Frames that left node 1 with requests: all but those of its other messages, one each.
      const auto frames = [&] {
        std::uint64_t count = 0;
        for (std::uint16_t queue = 0; queue < 2; ++queue) {
          count += cluster.engine(1).port().counters(queue).sent_frame_count;
          const auto& sent = regions[1]->counters[queue].sent_messages;
          for (std::size_t type = 0; type < sent.size(); ++type) {
            const auto is = [&](protocol::MessageType of) { return type == static_cast<std::size_t>(of); };
            const bool asks =
                is(protocol::MessageType::kCopyRequest) || is(protocol::MessageType::kWriteRequest);
            count -= asks ? 0 : sent[type].get();
          }
        }
        return count;
      };
      const std::uint64_t before = frames();
      cluster.engine(1).prefetch(*regions[1], 0, kPages, access);
      ASSERT_TRUE(eventually([&] {
        return std::ranges::all_of(std::views::iota(0U, kPages), [&](std::uint32_t page) {
          return protocol::allows(regions[1]->pages[page].summary().permission, access);
        });
      }));
      ASSERT_TRUE(eventually([&] { return frames() - before < kPages / 2; }))
          << "beats and repetitions included";
      for (std::size_t page = 0; page < kPages; ++page)
        EXPECT_EQ(word_of(*regions[1], page).fetch_add(access == Access::kWrite ? 1 : 0), page + 1);
    }
    for (std::size_t page = 0; page < kPages; ++page) EXPECT_EQ(word_of(*regions[0], page).load(), page + 2);
    EXPECT_TRUE(cluster.mbufs_come_back());
  }
}

}  // namespace
}  // namespace pagewire::dataplane
