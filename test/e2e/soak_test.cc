// For a minute, or PAGEWIRE_SOAK_SECONDS: faults of both deliveries on three nodes over a lossy network,
// scans and prefetches. Totals are exact, nothing is left waiting, and no process grows.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "test/e2e/cluster.h"

namespace pagewire::e2e {
namespace {

constexpr std::uint32_t kNodes = 3;

std::uint64_t soak_seconds() {
  const char* const given = std::getenv("PAGEWIRE_SOAK_SECONDS");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : 60;
}

void soaks_whole(std::vector<std::string> way) {
  // Pages come and go in the application views of two regions of 128: VmRSS moves by 1 MB. Beyond that, some
  // allocations of the C library.
  constexpr std::uint64_t kGrowthKb = 1'024 + 1'024;
  constexpr std::uint64_t kAnonymousGrowthKb = 512;
  const std::uint64_t seconds = soak_seconds();
  const std::string seed = std::to_string(std::random_device()() % 1'000'000);
  way.insert(way.end(), {"--seconds", std::to_string(seconds), "--threads", "2", "--seed", seed, "--drop",
                         "0.02", "--duplicate", "0.01", "--reorder", "0.02", "--retry-us", "500"});
  Cluster cluster("soak", kNodes, way);
  const std::vector<Finished> nodes = cluster.finish_all(static_cast<int>(seconds) + 120);
  for (const Finished& node : nodes) {
    EXPECT_EQ(node.exit_code, 0) << "seed " << seed << "\n" << node.output;
    EXPECT_EQ(node.at("wrong"), 0u) << "seed " << seed << "\n" << node.output;
    for (const std::string region : {"inline", "thread"}) {
      EXPECT_EQ(node.at(region + ".total"), node.at(region + ".expected")) << "seed " << seed << "\n"
                                                                           << node.output;
      EXPECT_GT(node.at(region + ".total"), 0u) << node.output;
      EXPECT_GT(node.at(region + ".faults"), 100 * seconds) << node.output;
      EXPECT_EQ(node.at(region + ".waiting"), 0u) << node.output;
    }
    EXPECT_EQ(node.at("waiting"), 0u) << node.output;
    EXPECT_EQ(node.at("dropped.no_mbuf_to_send"), 0u) << node.output;
    EXPECT_GE(node.at("samples") + 3, seconds * 9 / 10) << node.output;
    EXPECT_LE(node.at("VmRSS_growth_kb"), kGrowthKb) << node.output;
    EXPECT_LE(node.at("RssAnon_growth_kb"), kAnonymousGrowthKb) << node.output;
    std::printf(
        "%llu accesses, %llu + %llu faults, longest access %.1f ms, VmRSS %llu + %llu KiB, of it anonymous "
        "%llu "
        "+ %llu\n",
        static_cast<unsigned long long>(node.at("accesses")),
        static_cast<unsigned long long>(node.at("inline.faults")),
        static_cast<unsigned long long>(node.at("thread.faults")),
        static_cast<double>(node.at("worst_us")) * 1e-3, static_cast<unsigned long long>(node.at("VmRSS_kb")),
        static_cast<unsigned long long>(node.at("VmRSS_growth_kb")),
        static_cast<unsigned long long>(node.at("RssAnon_kb")),
        static_cast<unsigned long long>(node.at("RssAnon_growth_kb")));
  }
}

TEST(Soak, both_deliveries__shared_loops) { soaks_whole({}); }
TEST(Soak, both_deliveries__self_driven) { soaks_whole({"--self"}); }

}  // namespace
}  // namespace pagewire::e2e
