// The page table: entries stay where they are, what is published is one moment of an entry, and memory is
// bounded.
#include "dataplane/page_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <thread>
#include <vector>

#include "dataplane/region_state.h"

namespace pagewire::dataplane {
namespace {

using protocol::initial_entry;
using protocol::NodeId;
using protocol::PageEntry;
using protocol::Permission;
using protocol::Placement;
using protocol::Version;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

PageTable table_of(std::size_t pages) {
  return PageTable(pages, [](std::size_t page) {
    return initial_entry(NodeId{1}, NodeId{static_cast<std::uint8_t>(page % 3)}, Placement::kCyclic);
  });
}

TEST(PageTable, construction__publishes_the_initial_entries) {
  const PageTable table = table_of(1'000);
  ASSERT_EQ(table.size(), 1'000U);
  for (std::size_t page = 0; page < table.size(); ++page) {
    const PageSummary seen = table[page].summary();
    EXPECT_EQ(seen.owner, page % 3 == 1);
    EXPECT_EQ(seen.hint, NodeId{static_cast<std::uint8_t>(page % 3)});
    EXPECT_EQ(seen.permission, Permission::kInvalid);
    EXPECT_EQ(seen.version, page % 3 == 1 ? 1U : 0U);
    EXPECT_FALSE(seen.under_way);
  }
}

TEST(PageTable, publish__every_field_of_a_summary) {
  PageTable table = table_of(4);
  for (const Permission permission : {Permission::kInvalid, Permission::kRead, Permission::kWrite}) {
    for (const bool owner : {false, true}) {
      for (const std::uint16_t round : {std::uint16_t{0}, std::uint16_t{511}, protocol::kNoRound}) {
        for (const NodeId hint : {NodeId{0}, NodeId{7}, NodeId{63}, protocol::kNoNode}) {
          PageEntry& entry = table[2].entry();
          entry.permission = permission;
          entry.owner = owner;
          entry.round = round;
          entry.hint = hint;
          entry.version = Version{0x1234'5678'9abc'def0};
          table[2].publish();
          const PageSummary seen = table[2].summary();
          EXPECT_EQ(seen.permission, permission);
          EXPECT_EQ(seen.owner, owner);
          EXPECT_EQ(seen.under_way, round != protocol::kNoRound);
          EXPECT_EQ(seen.hint, hint);
          EXPECT_EQ(seen.version, 0x9abc'def0U);
        }
      }
    }
  }
  EXPECT_EQ(table[1].summary().hint, NodeId{1}) << "its neighbour has changed";
}

TEST(PageTable, publish__not_before_it_is_called) {
  PageTable table = table_of(1);
  table[0].entry().permission = Permission::kWrite;
  EXPECT_EQ(table[0].summary().permission, Permission::kInvalid);
  table[0].publish();
  EXPECT_EQ(table[0].summary().permission, Permission::kWrite);
}

// Fields that are changed together are seen together.
TEST(PageTable, summary__is_one_moment_while_the_loop_writes) {
  PageTable table = table_of(8);
  std::atomic<bool> done{false};
  std::thread loop([&] {
    for (std::uint64_t i = 1; i <= 400'000; ++i) {
      PageSlot& slot = table[i % 8];
      slot.entry().version = Version{i};
      slot.entry().hint = NodeId{static_cast<std::uint8_t>(i % 61)};
      slot.entry().owner = i % 2 == 0;
      slot.entry().permission = i % 2 == 0 ? Permission::kWrite : Permission::kRead;
      slot.publish();
    }
    done.store(true);
  });
  std::uint64_t torn = 0;
  std::uint64_t seen_count = 0;
  std::vector<std::uint32_t> before(8, 0);
  while (!done.load()) {
    for (std::size_t page = 0; page < 8; ++page) {
      const PageSummary seen = table[page].summary();
      if (seen.version < 8) continue;  // not written yet
      ++seen_count;
      const bool even = seen.version % 2 == 0;
      torn += seen.hint.value != seen.version % 61 || seen.owner != even ||
                      seen.permission != (even ? Permission::kWrite : Permission::kRead) ||
                      seen.version % 8 != page || seen.version < before[page]
                  ? 1
                  : 0;
      before[page] = seen.version;
    }
  }
  loop.join();
  EXPECT_EQ(torn, 0U);
  EXPECT_GT(seen_count, 0U);
}

std::size_t resident_bytes() {
  std::size_t total_pages = 0;
  std::size_t resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;
  return resident_pages * 4'096;
}

TEST(PageTable, memory_bytes__is_what_is_resident_and_at_most_128_a_page) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer has memory of its own";
  for (const std::size_t pages : {std::size_t{100'000}, std::size_t{262'144}, std::size_t{262'145}}) {
    const std::size_t before = resident_bytes();
    const PageTable table = table_of(pages);
    const std::size_t grown = resident_bytes() - before;
    EXPECT_LE(table.memory_bytes(), 128 * pages);
    EXPECT_LE(grown, 128 * pages + (1U << 20)) << pages << " pages";
    EXPECT_GE(grown + (1U << 20), table.memory_bytes()) << pages << " pages";
  }
}

TEST(LoopOf, neighbours_share_a_loop_and_all_loops_have_work) {
  static_assert(loop_of(0, 1) == 0 && loop_of(1'000'000, 1) == 0);
  for (std::uint32_t loops = 1; loops <= 8; ++loops) {
    std::vector<std::uint32_t> pages(loops, 0);
    for (std::uint32_t page = 0; page < loops * kPagesPerShard * 10; ++page) {
      ASSERT_LT(loop_of(page, loops), loops);
      ASSERT_EQ(loop_of(page, loops), loop_of(page / kPagesPerShard * kPagesPerShard, loops));
      ++pages[loop_of(page, loops)];
    }
    for (const std::uint32_t count : pages) EXPECT_EQ(count, kPagesPerShard * 10);
  }
}

}  // namespace
}  // namespace pagewire::dataplane
