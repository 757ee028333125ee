// The checks against thousands of random histories: small ones against trying all orders, large ones of
// simulated memories with and without a defect.
#include <gtest/gtest.h>

#include <cstdlib>

#include "test/history/history.h"
#include "test/history/linearizable.h"
#include "test/history/machines.h"
#include "test/history/sequential.h"

namespace pagewire::history {
namespace {

std::uint64_t long_or(std::uint64_t whole, std::uint64_t part) {
  return std::getenv("PAGEWIRE_TEST_LONG") != nullptr ? whole : part;
}

std::string all_of(const History& history) {
  std::string text;
  const Resolved resolved(history);
  for (Index i = 0; i < resolved.operation_count(); ++i) text += resolved.text(i) + "\n";
  return text;
}

struct Tally {
  std::uint64_t holds = 0;
  std::uint64_t violated = 0;
  std::uint64_t searches_with_dead_ends = 0;  // when nothing is derived
  void count(bool held) { ++(held ? holds : violated); }
};

void compare(const History& history, std::uint64_t seed, Tally& sequential, Tally& linearizable) {
  const Resolved resolved(history);
  const auto ours = check_sequential(resolved);
  const bool by_trying = is_sequential_by_trying(history);
  ASSERT_EQ(ours.verdict, by_trying ? Verdict::kHolds : Verdict::kViolated)
      << "seed " << seed << "\n"
      << ours.explanation << all_of(history);
  sequential.count(by_trying);
  const auto searched = check_sequential(resolved, {.derive = false});
  ASSERT_EQ(searched.verdict, ours.verdict) << "seed " << seed << "\n" << all_of(history);
  if (searched.dead_ends > 0) ++sequential.searches_with_dead_ends;
  const auto clock = check_linearizable(resolved);
  const bool clock_by_trying = is_linearizable_by_trying(history);
  ASSERT_EQ(clock.verdict, clock_by_trying ? Verdict::kHolds : Verdict::kViolated)
      << "seed " << seed << "\n"
      << clock.explanation << all_of(history);
  linearizable.count(clock_by_trying);
  // What is linearizable word by word is so as a whole, and that is an order that explains it.
  ASSERT_TRUE(!clock_by_trying || by_trying) << "seed " << seed << "\n" << all_of(history);
}

void expect_both_kinds(const Tally& tally, std::uint64_t at_least) {
  EXPECT_GE(tally.holds, at_least);
  EXPECT_GE(tally.violated, at_least);
}

TEST(Property, small_random_histories__as_by_trying_all_orders) {
  Tally sequential;
  Tally linearizable;
  for (std::uint64_t seed = 1; seed <= long_or(200'000, 5'000); ++seed) {
    compare(random_history(seed), seed, sequential, linearizable);
    if (HasFatalFailure()) return;
  }
  expect_both_kinds(sequential, 500);
  expect_both_kinds(linearizable, 100);
  EXPECT_GE(sequential.searches_with_dead_ends, 500U);
}

TEST(Property, small_histories_of_simulated_memories__as_by_trying_all_orders) {
  Tally sequential;
  Tally linearizable;
  for (std::uint64_t seed = 1; seed <= long_or(300'000, 10'000); ++seed) {
    const auto memory = static_cast<Memory>(seed % 3);
    const Load load{.memory = memory, .words = 2, .operations = 14, .plain_percent = 60};
    History history = simulate(load, seed);
    if (seed % 2 == 0) make_one_read_go_back(history, seed);
    compare(history, seed, sequential, linearizable);
    if (HasFatalFailure()) return;
  }
  expect_both_kinds(sequential, 500);
  expect_both_kinds(linearizable, 500);
}

TEST(Property, strong_memory__holds_until_one_read_is_changed) {
  for (const std::uint32_t plain_percent : {0U, 30U, 100U}) {
    for (std::uint64_t seed = 1; seed <= long_or(20, 2); ++seed) {
      History history = simulate({.words = 12, .operations = 30'000, .plain_percent = plain_percent}, seed);
      {
        const Resolved resolved(history);
        const auto held = check_sequential(resolved);
        EXPECT_EQ(held.verdict, Verdict::kHolds) << held.explanation;
        const auto clock = check_linearizable(resolved);
        EXPECT_EQ(clock.verdict, Verdict::kHolds) << clock.explanation;
      }
      ASSERT_TRUE(make_one_read_go_back(history, seed * 7919));
      const Resolved resolved(history);
      const auto broken = check_sequential(resolved);
      EXPECT_EQ(broken.verdict, Verdict::kViolated) << plain_percent << " seed " << seed;
      EXPECT_EQ(check_linearizable(resolved).verdict, Verdict::kViolated)
          << plain_percent << " seed " << seed;
      EXPECT_TRUE(broken.explanation.starts_with("each of these")) << broken.explanation;
      EXPECT_LT(broken.explanation.size(), 4000U) << "that is nothing to read";
    }
  }
}

TEST(Property, without_a_clock__strong_memory_holds) {
  for (std::uint64_t seed = 1; seed <= long_or(50, 5); ++seed) {
    History history = simulate({.words = 6, .operations = 10'000, .plain_percent = 40}, seed);
    for (auto& list : history.clients) {
      for (Operation& operation : list) operation.invoked_ns = operation.responded_ns = 0;
    }
    const auto held = check_sequential(Resolved(history));
    EXPECT_EQ(held.verdict, Verdict::kHolds) << held.explanation;
  }
}

void expect_found_out(Memory memory) {
  for (std::uint64_t seed = 1; seed <= long_or(50, 5); ++seed) {
    const Resolved resolved(simulate({.memory = memory, .operations = 5'000, .plain_percent = 50}, seed));
    EXPECT_EQ(check_sequential(resolved).verdict, Verdict::kViolated) << "seed " << seed;
    EXPECT_EQ(check_linearizable(resolved).verdict, Verdict::kViolated) << "seed " << seed;
  }
}

TEST(Property, store_buffers__are_found_out) { expect_found_out(Memory::kStoreBuffers); }
TEST(Property, a_late_invalidate__is_found_out) { expect_found_out(Memory::kLateInvalidate); }

}  // namespace
}  // namespace pagewire::history
