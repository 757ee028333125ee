// Real processes when something is wrong: frames lost, doubled and overtaken; a node killed or stopped;
// options that differ; nodes that do not come.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "test/e2e/cluster.h"

namespace pagewire::e2e {
namespace {

std::vector<std::string> lossy(std::uint64_t seed) {
  return {"--drop", "0.10",   "--duplicate",        "0.05",       "--reorder",
          "0.10",   "--seed", std::to_string(seed), "--retry-us", "300"};
}

std::uint64_t print_seed() {
  const std::uint64_t seed = std::random_device()();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

void count_under_loss(const std::string& layout, int loops, std::uint64_t adds,
                      const std::vector<std::string>& way = {}) {
  const std::uint64_t seed = print_seed();
  std::vector<std::string> flags = lossy(seed);
  flags.insert(flags.end(), way.begin(), way.end());
  flags.insert(flags.end(),
               {"--count", std::to_string(adds), "--layout", layout, "--loops", std::to_string(loops)});
  Cluster cluster("counts", 3, flags);
  for (const Finished& node : cluster.finish_all(240)) {
    EXPECT_EQ(node.exit_code, 0) << "seed " << seed << "\n" << node.output;
    EXPECT_EQ(node.at("total"), 3 * adds) << "seed " << seed << "\n" << node.output;
  }
}

TEST(Lossy, one_atomic__one_loop) { count_under_loss("one", 1, 200'000); }
TEST(Lossy, atomics_on_one_page__two_loops) { count_under_loss("page", 2, 200'000); }
TEST(Lossy, one_atomic__two_loops) { count_under_loss("one", 2, 200'000); }
TEST(Lossy, atomics_on_one_page__one_loop) { count_under_loss("page", 1, 200'000); }
TEST(Lossy, atomics_on_64_pages__one_loop) { count_under_loss("pages", 1, 200'000); }
TEST(Lossy, atomics_on_64_pages__two_loops) { count_under_loss("pages", 2, 200'000); }

TEST(Lossy, atomics_on_64_pages__inline_self) {
  count_under_loss("pages", 1, 100'000, {"--inline", "--self"});
}
TEST(Lossy, atomics_on_64_pages__two_loops__inline) { count_under_loss("pages", 2, 100'000, {"--inline"}); }

TEST(Lossy, peterson) {
  const std::uint64_t seed = print_seed();
  std::vector<std::string> flags = lossy(seed);
  flags.insert(flags.end(), {"--count", "100000", "--layout", "page"});
  Cluster cluster("peterson", 2, flags);
  for (const Finished& node : cluster.finish_all(200)) {
    EXPECT_EQ(node.exit_code, 0) << "seed " << seed << "\n" << node.output;
    EXPECT_EQ(node.at("violations"), 0u) << "seed " << seed;
    EXPECT_EQ(node.at("total"), 200'000u) << "seed " << seed;
  }
}

using Flags = std::vector<std::string>;
Flags with(Flags flags, const Flags& more) {
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}
const Flags kInlineSelf = {"--inline", "--self"};

void one_node_falls_silent(int signal, const Flags& way = {}) {
  Cluster cluster("dead_peer", 3, with({"--silence-ms", "500"}, way));
  ASSERT_TRUE(cluster.wait_for(2, "victim_ready", 60)) << cluster.finish(2, 1).output;
  cluster.signal(2, signal);
  for (std::uint32_t node = 0; node < 2; ++node) {
    EXPECT_TRUE(cluster.wait_for(node, "finished", 60)) << "node " << node;
  }
  for (std::uint32_t node = 0; node < 2; ++node) {
    cluster.signal(node, SIGTERM);
    const Finished finished = cluster.finish(node, 60);
    EXPECT_EQ(finished.exit_code, 128 + SIGTERM) << finished.output;  // until then it lived
    EXPECT_EQ(finished.at("silent"), 2u) << finished.output;
    EXPECT_EQ(finished.at("went_on"), 1u) << finished.output;
    if (node == 0) {
      EXPECT_EQ(finished.at("waits"), 1u) << finished.output;
    }
  }
}

TEST(DeadPeer, killed__others_go_on_and_know_it) { one_node_falls_silent(SIGKILL); }
TEST(DeadPeer, stopped__others_go_on_and_know_it) { one_node_falls_silent(SIGSTOP); }
TEST(DeadPeer, killed__others_go_on_and_know_it__inline_self) { one_node_falls_silent(SIGKILL, kInlineSelf); }
TEST(DeadPeer, stopped__others_go_on_and_know_it__inline_self) {
  one_node_falls_silent(SIGSTOP, kInlineSelf);
}

void a_blocked_thread_gets_sigbus(const Flags& way) {
  Cluster cluster("blocked_at_end", 2, with({"--silence-ms", "500"}, way));
  ASSERT_TRUE(cluster.wait_for(1, "victim_ready", 60)) << cluster.finish(1, 1).output;
  cluster.signal(1, SIGSTOP);
  const Finished finished = cluster.finish(0, 60);
  EXPECT_EQ(finished.exit_code, 0) << finished.output;
  EXPECT_EQ(finished.at("waits"), 1u) << finished.output;
  EXPECT_EQ(finished.at("outcome"), 1u) << finished.output;
}

TEST(DeadPeer, threads_blocked_when_their_node_ends__get_sigbus) { a_blocked_thread_gets_sigbus({}); }
TEST(DeadPeer, threads_blocked_when_their_node_ends__get_sigbus__self) {
  a_blocked_thread_gets_sigbus({"--self"});
}
// By the handler that the service had before.
TEST(DeadPeer, threads_blocked_when_their_node_ends__get_sigbus__inline) {
  a_blocked_thread_gets_sigbus({"--inline"});
}
TEST(DeadPeer, threads_blocked_when_their_node_ends__get_sigbus__inline_self) {
  a_blocked_thread_gets_sigbus(kInlineSelf);
}

TEST(SystemCalls, read_and_write_work_on_absent_pages) {
  Cluster cluster("syscalls", 2, {});
  const auto nodes = cluster.finish_all(60);
  EXPECT_EQ(nodes[1].at("written"), 3u * 4096) << nodes[1].output;
  EXPECT_EQ(nodes[1].at("read"), 3u * 4096) << nodes[1].output;
  EXPECT_EQ(nodes[0].at("same"), 1u) << nodes[0].output;
}

TEST(OpenRegion, sizes_differ__error_on_both_with_both_values) {
  Cluster cluster("mismatch", 2, {});
  for (const Finished& node : cluster.finish_all(60)) {
    EXPECT_EQ(node.exit_code, 0) << node.output;
    EXPECT_NE(node.output.find("4096 bytes"), std::string::npos) << node.output;
    EXPECT_NE(node.output.find("8192 bytes"), std::string::npos) << node.output;
    EXPECT_EQ(node.at("total"), 2u) << node.output;
  }
}

TEST(Join, a_node_that_does_not_come__is_named) {
  Cluster cluster("counts", 3, {"--join-ms", "800"});
  cluster.signal(2, SIGKILL);
  for (std::uint32_t node = 0; node < 2; ++node) {
    const Finished finished = cluster.finish(node, 60);
    EXPECT_EQ(finished.exit_code, 3) << finished.output;
    EXPECT_NE(finished.output.find("2"), std::string::npos) << finished.output;
    EXPECT_NE(finished.output.find("no link to"), std::string::npos) << finished.output;
  }
}

TEST(Leave, nothing_is_left_behind) {
  Cluster cluster("counts", 3, {"--count", "1000", "--layout", "pages"});
  for (const Finished& node : cluster.finish_all(60)) EXPECT_EQ(node.exit_code, 0) << node.output;
  EXPECT_TRUE(!std::filesystem::exists(cluster.folder()) || std::filesystem::is_empty(cluster.folder()));
}

}  // namespace
}  // namespace pagewire::e2e
