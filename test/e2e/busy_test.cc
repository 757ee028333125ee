// Three nodes with eight service threads each, through real processes: all get on, and what it costs.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "test/e2e/cluster.h"

namespace pagewire::e2e {
namespace {

constexpr std::uint32_t kNodes = 3;
constexpr std::uint32_t kThreads = 8;

std::string new_seed() { return std::to_string(std::random_device()() % 1'000'000); }

// With three times as many threads as cores nobody must wait for long. 2 s is what a machine with other work
// may take; a quiet one stays below 100 ms. The figures are printed.
void a_crowd_gets_on(std::vector<std::string> way) {
  constexpr std::uint64_t kWorstUs = 2'000'000;
  constexpr double kOverUseful = 1.5;
  std::string name = "crowd";
  for (const std::string& flag : way) name += " " + flag;
  const std::uint64_t accesses = long_or(100'000, 10'000);
  const std::string seed = new_seed();
  way.insert(way.end(),
             {"--count", std::to_string(accesses), "--threads", std::to_string(kThreads), "--seed", seed});
  Cluster cluster("crowd", kNodes, way);
  const std::vector<Finished> nodes = cluster.finish_all(240);
  std::uint64_t worst_us = 0;
  std::uint64_t wall_us = 0;
  std::uint64_t faults = 0;
  double processor_us = 0;
  double spun_us = 0;
  for (const Finished& node : nodes) {
    EXPECT_EQ(node.exit_code, 0) << "seed " << seed << "\n" << node.output;
    EXPECT_EQ(node.at("wrong"), 0u) << "seed " << seed << "\n" << node.output;
    EXPECT_EQ(node.at("total"), node.at("expected")) << "seed " << seed << "\n" << node.output;
    EXPECT_GT(node.at("total"), kNodes * kThreads * accesses / 4) << node.output;
    EXPECT_LT(node.at("worst_us"), kWorstUs) << "seed " << seed << "\n" << node.output;
    worst_us = std::max(worst_us, node.at("worst_us"));
    wall_us = std::max(wall_us, node.at("wall_us"));
    faults += node.at("faults");
    processor_us += static_cast<double>(node.at("processor_us"));
    spun_us += static_cast<double>(node.at("spun_us"));
  }
  // Nobody spins who takes the processor from others: what was spent is not much more than what was of use.
  EXPECT_LT(processor_us, kOverUseful * (processor_us - spun_us));
  std::printf(
      "%s: %llu accesses, %llu faults, %.2f s, %.2f s of processor time (%.2f of the useful part: the rest "
      "was "
      "spun), longest access %.1f ms\n",
      name.c_str(), static_cast<unsigned long long>(kNodes * kThreads * accesses),
      static_cast<unsigned long long>(faults), static_cast<double>(wall_us) * 1e-6, processor_us * 1e-6,
      processor_us / (processor_us - spun_us), static_cast<double>(worst_us) * 1e-3);
}

TEST(Crowd, thread_delivery) { a_crowd_gets_on({}); }
TEST(Crowd, thread_delivery__self) { a_crowd_gets_on({"--self"}); }
TEST(Crowd, inline_delivery) { a_crowd_gets_on({"--inline"}); }
TEST(Crowd, inline_delivery__self) { a_crowd_gets_on({"--inline", "--self"}); }

}  // namespace
}  // namespace pagewire::e2e
