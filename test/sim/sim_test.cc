// The simulator over some thousands of seeds, and what makes its verdict worth something: the same seed is
// the same run, everything that can happen did happen, and every bound is one that is kept.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "test/proof/row.h"
#include "test/sim/batch.h"
#include "test/sim/regressions.h"
#include "test/sim/simulator.h"

namespace pagewire::sim {
namespace {

std::uint64_t times() { return std::getenv("PAGEWIRE_TEST_LONG") != nullptr ? 10 : 1; }

TEST(Random, seed_means_the_same_everywhere) {
  // splitmix64's second number from 0, as published, is the state that the first number is made from.
  EXPECT_EQ(Random(0).next(), std::rotl(0x6e789e6aa1b965f4ULL * 5, 7) * 9);
  Random random(7);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(random.below(10), 10U);
  EXPECT_EQ(random.below(0), 0U);
  EXPECT_FALSE(random.chance(0));
  EXPECT_TRUE(random.chance(kAlways));
}

TEST(EventQueue, earliest_first__ties_in_order_of_entry) {
  Random random(1);
  EventQueue queue;
  for (std::uint32_t i = 0; i < 500; ++i) queue.push(random.below(50), Event::Kind::kThread, 0, i);
  queue.erase_if([](const Event& event) { return event.what % 5 == 0; });
  Event before = queue.pop();
  for (int left = 399; left > 0; --left) {
    const Event next = queue.pop();
    EXPECT_TRUE(before.before(next) && next.what % 5 != 0);
    before = next;
  }
  EXPECT_TRUE(queue.empty());
}

TEST(Simulator, same_seed__same_run) {
  Simulator used;
  std::vector<std::uint64_t> digests;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const Report first = used.run(seed, 500);
    Simulator fresh;
    const Report& second = fresh.run(seed, 500);
    EXPECT_EQ(first.digest, second.digest) << replay_command(first);
    EXPECT_EQ(to_json(first), to_json(second));
    digests.push_back(first.digest);
  }
  std::sort(digests.begin(), digests.end());
  EXPECT_EQ(std::adjacent_find(digests.begin(), digests.end()), digests.end()) << "two seeds, one run";
}

TEST(Simulator, longer_run__begins_as_the_shorter) {
  Simulator simulator;
  Story shorter({.to_step = 499, .page = std::nullopt});
  Story longer({.to_step = 499, .page = std::nullopt});
  simulator.run(3, 500, &shorter);
  simulator.run(3, 2'000, &longer);
  EXPECT_FALSE(shorter.plain().empty());
  EXPECT_EQ(longer.plain().rfind(shorter.plain(), 0), 0U);
}

TEST(Simulator, story__changes_nothing) {
  Simulator simulator;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const std::uint64_t untold = simulator.run(seed, 500).digest;
    Story story({});
    EXPECT_EQ(simulator.run(seed, 500, &story).digest, untold);
    EXPECT_EQ(story.mermaid(2).rfind("sequenceDiagram\n", 0), 0U);
    EXPECT_NE(story.mermaid(2).find("->>"), std::string::npos);
  }
}

TEST(Story, page_and_steps__nothing_else_is_told) {
  Simulator simulator;
  Story story({.from_step = 100, .to_step = 200, .page = 0});
  simulator.run(2, 500, &story);
  std::string text = story.plain();
  EXPECT_FALSE(text.empty());
  while (!text.empty()) {
    const std::string line = text.substr(0, text.find('\n'));
    text.erase(0, line.size() + 1);
    const int step = std::stoi(line);
    EXPECT_TRUE(step >= 100 && step <= 200) << line;
    EXPECT_TRUE(line.find(" p0 ") != std::string::npos || line.find("weather") != std::string::npos) << line;
  }
}

// Each kind of weather, message, refusal and event of the protocol, or the verdict says little about it.
void expect_everything_happened(const Counters& counters) {
  for (std::size_t i = 0; i < kCounters; ++i) {
    const auto counter = static_cast<Counter>(i);
    if (counter == Counter::kFramesWithoutRoom) {
      EXPECT_EQ(counters[counter], 0U) << "the network's store is too small";
    } else {
      EXPECT_GT(counters[counter], 0U) << counter_name(counter);
    }
  }
  for (std::size_t i = 1; i < counters.messages.size(); ++i)
    EXPECT_GT(counters.messages[i], 0U) << type_name(static_cast<protocol::MessageType>(i));
  for (std::size_t i = 0; i < kCalamities; ++i)
    EXPECT_GT(counters.calamities[i], 0U) << calamity_name(static_cast<Calamity>(i));
  for (std::size_t i = 0; i < protocol::kEvents; ++i)
    EXPECT_GT(counters.protocol_events[i], 0U) << "event " << i;
  for (std::size_t i = 1; i < counters.drops.size(); ++i) {
    const auto drop = static_cast<protocol::Drop>(i);
    // Of the packet loop alone, which gathers fragments.
    if (drop == protocol::Drop::kNotExpected || drop == protocol::Drop::kNoBuffer) continue;
    EXPECT_GT(counters.drops[i], 0U) << protocol::drop_name(drop);
  }
}

void expect_sound(const BatchReport& report, std::uint64_t seeds) {
  EXPECT_FALSE(report.broken) << describe(*report.broken) << replay_command(*report.broken);
  EXPECT_EQ(report.seeds, seeds);
  EXPECT_LT(report.heal_share_max, 1.0);
}

TEST(Simulator, many_seeds) {
  Simulator simulator;
  const std::uint64_t seeds = 12'000 * times();
  const BatchReport report = run_batch(simulator, {.first_seed = 1, .last_seed = seeds, .steps = 1'000});
  expect_sound(report, seeds);
  EXPECT_GE(report.steps, 1'000 * seeds);
  expect_everything_happened(report.counters);
  proof::row(
      "simulator", "seeds 1.." + std::to_string(seeds) + ", 1,000 steps and more each",
      std::to_string(report.steps) + " steps, " +
          std::to_string(static_cast<std::uint64_t>(static_cast<double>(report.steps) / report.seconds)) +
          " a second");
}

TEST(Simulator, long_runs) {
  Simulator simulator;
  const std::uint64_t seeds = 60 * times();
  expect_sound(run_batch(simulator, {.first_seed = 1, .last_seed = seeds, .steps = 50'000}), seeds);
}

// Healing at once: nothing but the beginning and each node's write of each page.
TEST(Simulator, no_first_phase) {
  Simulator simulator;
  expect_sound(run_batch(simulator, {.first_seed = 1, .last_seed = 500, .steps = 1}), 500);
}

// Without loss and with links in order no request is repeated in a cluster as large as the list of granted
// requests; in a larger one hardly any is.
TEST(Calm, nobody_waits_for_a_repetition) {
  Simulator simulator;
  simulator.adjust(make_calm);
  const std::uint64_t seeds = 4'000 * times();
  const BatchReport report = run_batch(simulator, {.first_seed = 1, .last_seed = seeds, .steps = 1'000});
  expect_sound(report, seeds);
  const std::uint64_t faults = report.counters[Counter::kReadFaults] + report.counters[Counter::kWriteFaults];
  EXPECT_LT(report.counters[Counter::kRepeatedRequests] * 2'000, faults);
  EXPECT_GT(report.counters.messages[static_cast<std::size_t>(protocol::MessageType::kNotOwner)], seeds);
  proof::row("simulator", "calm, seeds 1.." + std::to_string(seeds),
             std::to_string(report.counters[Counter::kRepeatedRequests]) + " of " + std::to_string(faults) +
                 " faults waited for a repetition");
}

// Nodes that do nothing but write one page.
Report run_writers(std::uint8_t nodes, std::uint64_t hold_ns, bool sees_turns) {
  Simulator simulator;
  simulator.adjust([=](Setting& setting) {
    make_calm(setting);
    setting.nodes = nodes;
    setting.pages = 1;
    setting.placement = protocol::Placement::kCyclic;
    setting.threads = 1;
    setting.mix = Mix::kPingPong;
    setting.store_share = kAlways;
    setting.prefetch_share = 0;
    setting.think_ns = 500;
    setting.wake_ns = 12'800;
    setting.ring_ns = 1'000;
    setting.turn_ns = 500;
    setting.delay_ns = 5'000;
    setting.hold_ns = hold_ns;
    setting.sees_turns = sees_turns;
  });
  return simulator.run(52, 20'000);
}

// A hold without end in sight costs nothing if turns are told, all of it at each hand-over if not; and
// without one a page is mostly taken before it was used.
TEST(Turn, five_writers_of_one_page) {
  constexpr std::uint64_t kBoundNs = 1'000'000;
  const Report told = run_writers(5, kBoundNs, true);
  const Report untold = run_writers(5, kBoundNs, false);
  const Report none = run_writers(5, 0, true);
  for (const Report* report : {&told, &untold, &none}) EXPECT_FALSE(report->violation) << describe(*report);
  const auto transfers = [](const Report& report) {
    return report.counters.messages[static_cast<std::size_t>(protocol::MessageType::kOwnershipTransfer)];
  };
  const auto hand_over_ns = [&](const Report& report) {
    return report.time_ns / std::max<std::uint64_t>(transfers(report), 1);
  };
  EXPECT_LT(hand_over_ns(told), kBoundNs / 20);
  EXPECT_GE(hand_over_ns(untold), kBoundNs * 9 / 10);
  EXPECT_GE(told.counters[Counter::kStores], transfers(told)) << "each has its turn";
  EXPECT_LT(none.counters[Counter::kStores], transfers(none) / 2);
}

// Who waits longest goes first: the node that is farthest from the others, too, has its turn soon.
TEST(Turn, three_writers_of_one_page__nobody_starves) {
  const Report report = run_writers(3, 1'000'000, true);
  EXPECT_FALSE(report.violation) << describe(report);
  EXPECT_LT(report.worst_wait_ns, 200'000U);
}

TEST(Regressions, seeds_that_once_showed_something) {
  Simulator simulator;
  for (const Regression& regression : kRegressions) {
    simulator.adjust([&](Setting& setting) {
      if (regression.calm) make_calm(setting);
    });
    const Report& report = simulator.run(regression.seed, regression.steps);
    EXPECT_FALSE(report.violation) << regression.showed << "\n" << describe(report) << replay_command(report);
  }
}

}  // namespace
}  // namespace pagewire::sim
