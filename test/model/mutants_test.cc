// Each rule of the protocol, left out: the exhaustive check must find what breaks, within the grounds of
// mutants.cc. A rule that nothing misses is not needed, or the check has a hole.
#include "test/model/mutants.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace pagewire::model {
namespace {

using protocol::kRules;
using protocol::Rule;

TEST(Grounds, AreSoundWithAllRules) {
  for (const Ground& ground : grounds()) {
    if (ground.bounds.nodes == 3 && ground.bounds.faults == 3) continue;  // preset 3x3, in explore_test
    const Report report = explore(ground.bounds);
    EXPECT_TRUE(report.complete && report.violation.empty())
        << ground.name << ": " << report.summary() << "\n"
        << report.path_text();
  }
}

class Mutant : public testing::TestWithParam<std::size_t> {};

TEST_P(Mutant, IsCaught) {
  const auto rule = static_cast<Rule>(GetParam());
  const Caught caught = catch_mutant(rule, false);
  ASSERT_NE(caught.ground, nullptr) << "nothing breaks without: " << protocol::rule_name(rule);
  ASSERT_FALSE(caught.report.path.empty());
  EXPECT_LE(caught.report.path.size(), 16U) << "the bound that docs/proof.md states";
  std::printf("%2zu | %-46s | %-38s | %2zu steps | %6zu states | %s\n", GetParam(), protocol::rule_name(rule),
              caught.ground->name, caught.report.path.size() - 1, caught.report.states,
              caught.report.violation.c_str());
  EXPECT_TRUE(protocol::keeps(rule)) << "the switch is back";
}

// The way to a violation does not depend on the folding of names.
TEST_P(Mutant, IsCaughtAsSoonWithoutFolding) {
  const auto rule = static_cast<Rule>(GetParam());
  const Caught caught = catch_mutant(rule, false);
  ASSERT_NE(caught.ground, nullptr);
  if (caught.report.violation.rfind("I6: the system", 0) == 0)
    return;  // which of the stuck states is by chance
  Bounds bounds = caught.ground->bounds;
  bounds.fold = false;
  protocol::switch_off(rule);
  const Report report = explore(bounds);
  protocol::switch_all_on();
  EXPECT_EQ(report.path.size(), caught.report.path.size()) << report.summary();
}

INSTANTIATE_TEST_SUITE_P(Rules, Mutant, testing::Range(std::size_t{0}, kRules), [](const auto& tested) {
  std::string name = protocol::rule_name(static_cast<Rule>(tested.param));
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
  }
  return name;
});

}  // namespace
}  // namespace pagewire::model
