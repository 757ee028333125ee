// Pages that the service keeps here for a bounded time (Engine::hold), with both deliveries and kinds of
// loop.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/control_plane.h"
#include "test/dataplane/ring_cluster.h"

namespace pagewire::dataplane {
namespace {

using protocol::Access;
using protocol::Placement;
using test::RingCluster;
using Range = Loop::PageRange;

constexpr std::uint64_t kLongNs = 200'000'000;

std::atomic_ref<std::uint64_t> word_of(RegionState& region, std::size_t page) {
  auto* const at = region.memory.application_view() + page * protocol::kPageBytes;
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(at));
}

class Holds : public ::testing::TestWithParam<test::Way> {
 protected:
  test::ClusterOptions options() const {
    return {.nodes = 2, .loops = 2, .loop_kind = GetParam().loop_kind, .delivery = GetParam().delivery};
  }
};
INSTANTIATE_TEST_SUITE_P(Ways, Holds, ::testing::ValuesIn(test::kWays),
                         [](const auto& info) { return test::name_of(info.param); });

TEST_P(Holds, a_store_elsewhere_waits_until_the_hold_ends) {
  RingCluster cluster(options());
  const auto regions = cluster.open("grid", 40, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), 2U);
  for (std::size_t page = 0; page < 40; ++page) word_of(*regions[1], page).store(page);
  const Range range{.region = regions[0], .first_page = 10, .page_count = 20, .access = Access::kRead};
  ASSERT_TRUE(cluster.engine(0).hold(range, now_ns() + 10 * kLongNs));
  std::atomic<bool> stored{false};
  std::thread other([&] {
    word_of(*regions[1], 15).store(99);
    stored.store(true);
  });
  // The other node's request is here, and waits.
  ASSERT_TRUE(test::eventually([&] { return regions[0]->pages[15].summary().under_way; }));
  for (std::size_t page = 10; page < 30; ++page) EXPECT_EQ(word_of(*regions[0], page).load(), page);
  EXPECT_FALSE(stored.load());
  cluster.engine(0).end_hold(range);
  other.join();
  EXPECT_EQ(word_of(*regions[0], 15).load(), 99U);
}

TEST_P(Holds, end_by_themselves) {
  RingCluster cluster(options());
  const auto regions = cluster.open("grid", 4, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), 2U);
  const std::uint64_t until_ns = now_ns() + kLongNs;
  const Range range{.region = regions[0], .first_page = 0, .page_count = 4, .access = Access::kWrite};
  ASSERT_TRUE(cluster.engine(0).hold(range, until_ns));
  EXPECT_EQ(word_of(*regions[1], 2).load(), 0U);  // waits for the end
  EXPECT_GE(now_ns(), until_ns);
  cluster.engine(0).end_hold(range);
  word_of(*regions[0], 2).store(1);
  EXPECT_EQ(word_of(*regions[1], 2).load(), 1U);
}

TEST_P(Holds, what_another_holds__is_not_had_in_time_and_nothing_stays_held) {
  RingCluster cluster(options());
  const auto regions = cluster.open("grid", 4, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), 2U);
  const Range theirs{.region = regions[1], .first_page = 3, .page_count = 1, .access = Access::kWrite};
  ASSERT_TRUE(cluster.engine(1).hold(theirs, now_ns() + 10 * kLongNs));
  const Range ours{.region = regions[0], .first_page = 0, .page_count = 4, .access = Access::kWrite};
  EXPECT_FALSE(cluster.engine(0).hold(ours, now_ns() + kLongNs / 10));
  const std::uint64_t before_ns = now_ns();
  word_of(*regions[1], 0).fetch_add(1);  // ours no longer
  EXPECT_LT(now_ns() - before_ns, 5 * kLongNs);
  cluster.engine(1).end_hold(theirs);
}

TEST_P(Holds, two_of_one_page__the_later_end_counts) {
  RingCluster cluster(options());
  const auto regions = cluster.open("grid", 2, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), 2U);
  const Range range{.region = regions[0], .first_page = 0, .page_count = 1, .access = Access::kRead};
  ASSERT_TRUE(cluster.engine(0).hold(range, now_ns() + 10 * kLongNs));
  ASSERT_TRUE(cluster.engine(0).hold(range, now_ns() + 10 * kLongNs));
  cluster.engine(0).end_hold(range);
  std::atomic<bool> stored{false};
  std::thread other([&] {
    word_of(*regions[1], 0).store(7);
    stored.store(true);
  });
  ASSERT_TRUE(test::eventually([&] { return regions[0]->pages[0].summary().under_way; }));
  EXPECT_FALSE(stored.load());
  cluster.engine(0).end_hold(range);
  other.join();
}

// The way out for inline delivery, where the kernel does not ask us.
TEST_P(Holds, a_system_call_works_on_what_is_held) {
  RingCluster cluster(options());
  const auto regions = cluster.open("grid", 3, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), 2U);
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  std::array<std::byte, protocol::kPageBytes> bytes{};
  bytes.fill(std::byte{42});
  ASSERT_EQ(write(ends[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  std::byte* const target = regions[0]->memory.application_view() + protocol::kPageBytes;
  if (!regions[0]->memory.kernel_faults()) {
    EXPECT_EQ(read(ends[0], target, bytes.size()), -1);
    EXPECT_EQ(errno, EFAULT);
  }
  const Range range{.region = regions[0], .first_page = 1, .page_count = 1, .access = Access::kWrite};
  ASSERT_TRUE(cluster.engine(0).hold(range, now_ns() + 10 * kLongNs));
  EXPECT_EQ(read(ends[0], target, bytes.size()), static_cast<ssize_t>(bytes.size()));
  cluster.engine(0).end_hold(range);
  EXPECT_EQ(word_of(*regions[1], 1).load(), 0x2a2a'2a2a'2a2a'2a2aU);
  for (const int end : ends) close(end);
}

// More threads than cores write one page. What a thread waited for stays until its instruction is through, so
// no page moves in vain for ever: not while its thread is still on its way out of its signal handler, either.
TEST_P(Holds, many_writers_of_one_page__each_gets_to_use_it) {
  constexpr std::size_t kNodes = 4;
  constexpr std::uint64_t kStores = 1'500;
  constexpr std::uint64_t kGrantsPerStore = 3;
  test::ClusterOptions crowded = options();
  crowded.nodes = kNodes;
  crowded.loops = 1;
  RingCluster cluster(crowded);
  const auto regions = cluster.open("grid", 1, Placement::kOneNode, 1);
  ASSERT_EQ(regions.size(), kNodes);
  std::vector<std::thread> writers;
  for (std::size_t node = 0; node < kNodes; ++node) {
    writers.emplace_back([&, node] {
      for (std::uint64_t i = 0; i < kStores; ++i) {
        word_of(*regions[node], 0).fetch_add(1);
        if (i % 16 == 0) std::this_thread::yield();
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(word_of(*regions[0], 0).load(), kNodes * kStores);
  const auto moved = static_cast<std::size_t>(protocol::MessageType::kOwnershipTransfer);
  std::uint64_t transfers = 0;
  for (const RegionState* region : regions) transfers += region->counters[0].sent_messages[moved].get();
  EXPECT_LE(transfers, kGrantsPerStore * kNodes * kStores);
  RecordProperty("transfers", std::to_string(transfers));
}

}  // namespace
}  // namespace pagewire::dataplane
