// Exact counts, a lock, and a large region, through real processes over memif.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "test/e2e/cluster.h"

namespace pagewire::e2e {
namespace {

constexpr std::uint64_t kAdds = 200'000;

void expect_exact(const std::vector<Finished>& nodes, std::uint64_t total) {
  for (const Finished& node : nodes) {
    EXPECT_EQ(node.exit_code, 0) << node.output;
    EXPECT_EQ(node.at("total"), total) << node.output;
  }
}

using Flags = std::vector<std::string>;
Flags with(Flags flags, const Flags& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}
const Flags kInline = {"--inline"};
const Flags kSelf = {"--self"};
const Flags kInlineSelf = {"--inline", "--self"};

void count_together(const std::string& layout, int loops, const Flags& way = {}) {
  Cluster cluster(
      "counts", 3,
      with({"--count", std::to_string(kAdds), "--layout", layout, "--loops", std::to_string(loops)}, way));
  expect_exact(cluster.finish_all(120), 3 * kAdds);
}

TEST(Counts, one_atomic__one_loop) { count_together("one", 1); }
TEST(Counts, one_atomic__two_loops) { count_together("one", 2); }
TEST(Counts, atomics_on_one_page__one_loop) { count_together("page", 1); }
TEST(Counts, atomics_on_one_page__two_loops) { count_together("page", 2); }
TEST(Counts, atomics_on_64_pages__one_loop) { count_together("pages", 1); }
TEST(Counts, atomics_on_64_pages__two_loops) { count_together("pages", 2); }

TEST(Counts, one_atomic__inline_self) { count_together("one", 1, kInlineSelf); }
TEST(Counts, one_atomic__inline) { count_together("one", 1, kInline); }
TEST(Counts, one_atomic__self) { count_together("one", 1, kSelf); }
TEST(Counts, atomics_on_one_page__two_loops__inline_self) { count_together("page", 2, kInlineSelf); }
TEST(Counts, atomics_on_64_pages__inline_self) { count_together("pages", 1, kInlineSelf); }
TEST(Counts, atomics_on_64_pages__two_loops__inline_self) { count_together("pages", 2, kInlineSelf); }
TEST(Counts, atomics_on_64_pages__inline) { count_together("pages", 1, kInline); }
TEST(Counts, atomics_on_64_pages__self) { count_together("pages", 1, kSelf); }

void lock_together(const std::string& layout, std::uint64_t entries, const Flags& way = {}) {
  Cluster cluster("peterson", 2, with({"--count", std::to_string(entries), "--layout", layout}, way));
  for (const Finished& node : cluster.finish_all(150)) {
    EXPECT_EQ(node.exit_code, 0) << node.output;
    EXPECT_EQ(node.at("violations"), 0u) << node.output;
    EXPECT_EQ(node.at("total"), 2 * entries) << node.output;
    EXPECT_GE(node.at("switches"), entries / 1000) << "the lock was hardly contended\n" << node.output;
  }
}

TEST(Peterson, all_on_one_page) { lock_together("page", 100'000); }
TEST(Peterson, each_word_on_its_page) { lock_together("pages", long_or(100'000, 10'000)); }
TEST(Peterson, all_on_one_page__inline_self) { lock_together("page", long_or(100'000, 30'000), kInlineSelf); }
TEST(Peterson, each_word_on_its_page__inline_self) {
  lock_together("pages", long_or(100'000, 10'000), kInlineSelf);
}

TEST(BigRegion, is_right_and_costs_its_bytes_once) {
  constexpr std::uint64_t kMegabytes = 64;
  Cluster cluster("big", 3, {"--count", std::to_string(kMegabytes)});
  for (const Finished& node : cluster.finish_all(120)) {
    EXPECT_EQ(node.exit_code, 0) << node.output;
    EXPECT_EQ(node.at("wrong"), 0u) << node.output;
    EXPECT_LE(node.at("page_table_bytes"), (kMegabytes << 20) / 4096 * 128) << node.output;
    // Region and page table aside, all there is fits the fixed part that the node tells, and the program
    // itself.
    constexpr std::uint64_t kProgram = 8 << 20;
    EXPECT_GE(node.at("own_bytes"), kMegabytes << 20) << node.output;
    EXPECT_LE(node.at("own_bytes"),
              (kMegabytes << 20) + node.at("page_table_bytes") + node.at("fixed_bytes") + kProgram)
        << node.output;
  }
}

}  // namespace
}  // namespace pagewire::e2e
