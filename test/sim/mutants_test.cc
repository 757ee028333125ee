// Each rule of protocol/rules.h is switched off in turn, and the simulator must notice: once with all its
// checks, once with those alone whose breach a program could see (I1, I2, I6). Prints the table of
// docs/proof.md. The intact code passes the same seeds.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "protocol/rules.h"
#include "test/proof/row.h"
#include "test/sim/batch.h"

namespace pagewire::sim {
namespace {

using protocol::Rule;

constexpr std::uint64_t kSeedsMax = 5'000;  // within which a rule's loss must be noticed
constexpr std::uint64_t kSteps = 1'000;     // of each seed's first phase

// Their loss moves pages for nothing (R10, heard once), or is a matter of moments within one step (R7: here
// the mapping is gone at the end of the step that sends the promise), or of a wait that repetition ends. No
// program sees it; the checks do.
constexpr std::array kUnseen = {Rule::kZapBeforePromise, Rule::kGrantedTravels, Rule::kGrantedIsDropped,
                                Rule::kHeardOnce,        Rule::kSaysWhoIsNext,  Rule::kTurnedAwayFirst};
constexpr std::uint64_t kSeedsUnseen = 300;

// Rules are switched for the whole process: on again, whatever the test does.
class SwitchedOff {
 public:
  explicit SwitchedOff(Rule rule) { protocol::switch_off(rule); }
  ~SwitchedOff() { protocol::switch_all_on(); }
  SwitchedOff(const SwitchedOff&) = delete;
  SwitchedOff& operator=(const SwitchedOff&) = delete;
};

BatchReport run(Simulator::Demand demand, std::uint64_t seeds) {
  Simulator simulator;
  simulator.demand(demand);
  return run_batch(simulator, {.first_seed = 1, .last_seed = seeds, .steps = kSteps});
}

BatchReport run_without(Rule rule, Simulator::Demand demand, std::uint64_t seeds) {
  const SwitchedOff off(rule);
  return run(demand, seeds);
}

std::string in_words(const BatchReport& report) {
  if (!report.broken) return fmt::format("{:>4} {:>8} nothing", report.seeds, report.steps);
  return fmt::format("{:>4} {:>8} {}", report.broken->seed, report.steps, report.broken->violation->what);
}

TEST(Mutants, each_rule_switched_off__is_noticed) {
  constexpr const char* kRow = "{:<46} {:<66} {}\n";
  fmt::print(kRow, "rule switched off", "seed    steps what broke first",
             "seed    steps what a program sees");
  for (std::size_t i = 0; i < protocol::kRules; ++i) {
    const auto rule = static_cast<Rule>(i);
    const char* name = protocol::rule_name(rule);
    const bool unseen = std::find(kUnseen.begin(), kUnseen.end(), rule) != kUnseen.end();
    const BatchReport any = run_without(rule, Simulator::Demand::kAll, kSeedsMax);
    const BatchReport seen =
        run_without(rule, Simulator::Demand::kVisible, unseen ? kSeedsUnseen : kSeedsMax);
    fmt::print(kRow, name, in_words(any), in_words(seen));
    EXPECT_TRUE(any.broken) << name << ": switched off, and nothing in " << any.seeds << " seeds noticed";
    EXPECT_EQ(seen.broken.has_value(), !unseen) << name << ": " << in_words(seen);
  }
  proof::row("mutants", "the simulator, each rule left out",
             fmt::format("{} rules, each caught within {} seeds", protocol::kRules, kSeedsMax));
}

TEST(Mutants, none_switched_off__nothing_to_notice) {
  for (const auto demand : {Simulator::Demand::kAll, Simulator::Demand::kVisible}) {
    const BatchReport report = run(demand, kSeedsMax / 2);
    EXPECT_FALSE(report.broken) << describe(*report.broken);
  }
}

// A mutant's run is replayed like any other.
TEST(Mutants, same_seed__same_violation) {
  const SwitchedOff off(Rule::kReaderInCopyset);
  Simulator simulator;
  const BatchReport batch = run_batch(simulator, {.first_seed = 1, .last_seed = 100, .steps = kSteps});
  ASSERT_TRUE(batch.broken);
  Story story({});
  const Report& again = simulator.run(batch.broken->seed, kSteps, &story);
  ASSERT_TRUE(again.violation);
  EXPECT_EQ(again.digest, batch.broken->digest);
  EXPECT_EQ(again.violation->step, batch.broken->violation->step);
  EXPECT_NE(story.mermaid(again.setting.nodes).find("VIOLATION at step"), std::string::npos);
}

}  // namespace
}  // namespace pagewire::sim
