// Three network namespaces on one bridge: af_packet, frames of 1,514 bytes, true multicast.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "test/e2e/cluster.h"

namespace pagewire::e2e {
namespace {

std::vector<std::string> with_bridge(std::vector<std::string> flags) {
  flags.insert(flags.end(), {"--port", std::string("af_packet:") + Namespaces::kInterface});
  return flags;
}

void count_over_bridge(const std::string& layout, int loops, std::uint64_t adds) {
  const Namespaces namespaces(3);
  if (!namespaces.why_not().empty()) GTEST_SKIP() << namespaces.why_not();
  Cluster cluster(
      "counts", 3,
      with_bridge({"--count", std::to_string(adds), "--layout", layout, "--loops", std::to_string(loops)}),
      namespaces.prefixes());
  for (const Finished& node : cluster.finish_all(150)) {
    EXPECT_EQ(node.exit_code, 0) << node.output;
    EXPECT_EQ(node.at("total"), 3 * adds) << node.output;
  }
}

TEST(Bridge, one_atomic) { count_over_bridge("one", 1, 200'000); }
TEST(Bridge, atomics_on_one_page) { count_over_bridge("page", 1, 200'000); }
TEST(Bridge, atomics_on_64_pages) { count_over_bridge("pages", 1, 200'000); }
TEST(Bridge, atomics_on_64_pages__two_loops) { count_over_bridge("pages", 2, 200'000); }

TEST(Bridge, a_copy_request_to_all_is_one_frame) {
  const Namespaces namespaces(3);
  if (!namespaces.why_not().empty()) GTEST_SKIP() << namespaces.why_not();
  constexpr std::uint64_t kPages = 40;
  Cluster cluster("multicast", 3, with_bridge({"--count", std::to_string(kPages)}), namespaces.prefixes());
  const auto nodes = cluster.finish_all(60);
  for (const Finished& node : nodes) EXPECT_EQ(node.exit_code, 0) << node.output;
  EXPECT_EQ(nodes[1].at("seen"), 7 * kPages) << nodes[1].output;
  EXPECT_EQ(nodes[1].at("copy_requests"), kPages) << nodes[1].output;
  // A third of the pages was node 2's to begin with, which then had nothing to tell: for these node 1 asks
  // all. Of the others it heard node 2's write request, and asks that node alone.
  EXPECT_GE(nodes[1].at("multicast_frames"), kPages / 3) << nodes[1].output;
  // One frame each, and now and then a beat. Frame by frame to each node it would be twice as many.
  EXPECT_LT(nodes[1].at("frames"), kPages * 5 / 4) << nodes[1].output;
}

}  // namespace
}  // namespace pagewire::e2e
