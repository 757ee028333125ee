// The same exact totals over a port that drops 10 %, doubles 5 % and reorders 10 % of the frames, by a seed
// that is printed, with pages in one frame and in three; and a lock of two nodes that never lets both in.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <optional>
#include <string>

#include "dataplane/impaired_port.h"
#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using test::ClusterOptions;
using test::RingCluster;
using test::word_of;
using Regions = std::vector<RegionState*>;

constexpr std::uint32_t kWholePages = 8'192;
constexpr std::uint32_t kThreeFragments = 1'514;

// A cluster whose ports are impaired, and what they did.
class LossyCluster {
 public:
  LossyCluster(std::uint32_t nodes, std::uint32_t loops, std::uint32_t frame_bytes_max, test::Way way = {})
      : seed_(test::seed_of_this_run()), loops_(loops), ports_(nodes) {
    ClusterOptions options{.nodes = nodes,
                           .loops = loops,
                           .retry_ns = 200'000,
                           .loop_kind = way.loop_kind,
                           .delivery = way.delivery};
    options.wrap = [this, frame_bytes_max](std::unique_ptr<Port> port,
                                           std::uint32_t node) -> std::unique_ptr<Port> {
      auto narrow = std::make_unique<test::NarrowPort>(std::move(port), frame_bytes_max);
      auto impaired = make_impaired_port(
          std::move(narrow),
          {.drop = 0.10, .duplicate = 0.05, .reorder = 0.10, .seed = seed_ + 1'000 * node});
      ports_[node] = impaired.get();
      return impaired;
    };
    cluster_.emplace(options);
  }
  RingCluster& operator*() { return *cluster_; }
  RingCluster* operator->() { return &*cluster_; }

  ImpairmentCounters impairments() const {
    ImpairmentCounters sum;
    for (const ImpairedPort* port : ports_) {
      for (std::uint16_t queue = 0; queue < loops_; ++queue) {
        const ImpairmentCounters one = port->impairments(queue);
        sum.seen_count += one.seen_count;
        sum.dropped_count += one.dropped_count;
        sum.duplicated_count += one.duplicated_count;
        sum.reordered_count += one.reordered_count;
      }
    }
    return sum;
  }
  bool has_seen_enough() const { return impairments().seen_count > 400; }
  void expect_that_it_was_lossy() const {
    const ImpairmentCounters sum = impairments();
    EXPECT_TRUE(has_seen_enough()) << sum.seen_count << " frames";
    EXPECT_GT(sum.dropped_count, sum.seen_count / 20);
    EXPECT_GT(sum.duplicated_count, sum.seen_count / 100);
    EXPECT_GT(sum.reordered_count, sum.seen_count / 50);
  }

 private:
  std::uint64_t seed_;
  std::uint32_t loops_;
  std::vector<const ImpairedPort*> ports_;
  std::optional<RingCluster> cluster_;
};

struct LossyCase {
  std::uint32_t nodes;
  std::uint32_t loops;
  std::uint32_t frame_bytes_max;
  test::Way way = {};
};
class LossyCounts : public ::testing::TestWithParam<LossyCase> {};
INSTANTIATE_TEST_SUITE_P(Nodes, LossyCounts,
                         ::testing::Values(LossyCase{2, 1, kWholePages}, LossyCase{3, 1, kWholePages},
                                           LossyCase{3, 2, kWholePages}, LossyCase{3, 1, kThreeFragments},
                                           LossyCase{3, 2, kThreeFragments},
                                           LossyCase{3, 1, kWholePages, test::kWays[1]},
                                           LossyCase{3, 2, kThreeFragments, test::kWays[1]},
                                           LossyCase{3, 1, kWholePages, test::kWays[2]},
                                           LossyCase{3, 2, kThreeFragments, test::kWays[2]},
                                           LossyCase{3, 1, kWholePages, test::kWays[3]},
                                           LossyCase{3, 2, kThreeFragments, test::kWays[3]}),
                         [](const auto& info) {
                           return test::name_of(info.param.way) + "_" + std::to_string(info.param.nodes) +
                                  "_nodes_" + std::to_string(info.param.loops) + "_loops_frames_of_" +
                                  std::to_string(info.param.frame_bytes_max);
                         });

TEST_P(LossyCounts, are_exact_and_end) {
  LossyCluster cluster(GetParam().nodes, GetParam().loops, GetParam().frame_bytes_max, GetParam().way);
  // How many frames that takes is up to the nodes: until some of each kind must have been among them.
  for (int run = 0; run == 0 || (run < 20 && !cluster.has_seen_enough()); ++run) {
    const Regions regions = cluster->open("grid " + std::to_string(run), 40);
    ASSERT_EQ(regions.size(), GetParam().nodes);
    test::expect_exact_counts(*cluster, regions, GetParam().nodes == 2 ? 100'000 : 1'000);
  }
  cluster.expect_that_it_was_lossy();
  EXPECT_TRUE(cluster->mbufs_come_back());
  EXPECT_TRUE(cluster->leave());
}

// Readers of pages that one node writes: what is read never goes back, and what was written last arrives.
TEST(Lossy, reads__never_go_back) {
  LossyCluster cluster(3, 1, kThreeFragments);
  constexpr std::size_t kPages = 8;
  constexpr std::uint64_t kLast = 300;
  const Regions regions = cluster->open("grid", kPages);
  ASSERT_EQ(regions.size(), 3U);
  cluster->on_all([&](std::size_t node, std::size_t) {
    if (node == 0) {
      for (std::uint64_t value = 1; value <= kLast; ++value) {
        for (std::size_t page = 0; page < kPages; ++page) word_of(*regions[0], page).store(value);
      }
      return;
    }
    // Stores go from page 0 up, and all nodes see them in one order: a later page is never ahead of an
    // earlier one.
    std::array<std::uint64_t, kPages> seen{};
    std::size_t wrong = 0;
    while (seen[kPages - 1] != kLast) {
      for (std::size_t page = kPages; page-- > 0;) {
        const std::uint64_t value = word_of(*regions[node], page).load();
        if (value < seen[page]) ++wrong;
        if (page + 1 < kPages && value < seen[page + 1]) ++wrong;
        seen[page] = value;
      }
    }
    EXPECT_EQ(wrong, 0U) << "node " << node;
  });
  EXPECT_TRUE(cluster->mbufs_come_back());
}

// Peterson's lock needs sequential consistency over three words; here each is on a page of its own.
class LossyLock : public ::testing::TestWithParam<test::Way> {};
INSTANTIATE_TEST_SUITE_P(Ways, LossyLock, ::testing::ValuesIn(test::kWays),
                         [](const auto& info) { return test::name_of(info.param); });

TEST_P(LossyLock, peterson__never_both_inside) {
  LossyCluster cluster(2, 1, kWholePages, GetParam());
  constexpr std::uint64_t kEntries = 1'000;
  const Regions regions = cluster->open("lock", 4);
  ASSERT_EQ(regions.size(), 2U);
  std::atomic<int> inside{0};  // of this process: sees it if the region's own words fail
  std::atomic<std::uint64_t> both{0};
  constexpr std::uint64_t kTogether = 10;  // they meet again: else one may be done before the other begins
  std::barrier meeting(2);
  cluster->on_all([&](std::size_t node, std::size_t) {
    const std::size_t other = 1 - node;
    std::atomic<std::uint64_t>& turn = word_of(*regions[node], 2);
    auto& count = *reinterpret_cast<volatile std::uint64_t*>(
        &word_of(*regions[node], 3));  // no atomic: it needs the lock
    for (std::uint64_t i = 0; i < kEntries; ++i) {
      if (i % kTogether == 0) meeting.arrive_and_wait();
      word_of(*regions[node], node).store(1);
      turn.store(other);
      while (word_of(*regions[node], other).load() == 1 && turn.load() == other) std::this_thread::yield();
      if (inside.fetch_add(1) != 0) both.fetch_add(1);
      count = count + 1;
      inside.fetch_sub(1);
      word_of(*regions[node], node).store(0);
    }
  });
  EXPECT_EQ(both.load(), 0U);
  EXPECT_EQ(word_of(*regions[0], 3).load(), 2 * kEntries);
  EXPECT_EQ(word_of(*regions[1], 3).load(), 2 * kEntries);
  cluster.expect_that_it_was_lossy();
}

}  // namespace
}  // namespace pagewire::dataplane
