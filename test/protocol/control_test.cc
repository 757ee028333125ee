// Joining, barriers, regions and leaving, over a network that loses, doubles and overtakes by a seed. Time is
// simulated.
#include "protocol/control.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "test/protocol/control_network.h"

namespace pagewire::protocol {
namespace {

class ControlSeeds : public ::testing::TestWithParam<std::uint32_t> {};  // the node count
constexpr std::uint64_t kSeeds = 12;

INSTANTIATE_TEST_SUITE_P(Nodes, ControlSeeds, ::testing::Values(2U, 3U, 5U, 8U));

TEST_P(ControlSeeds, join__completes_whatever_is_lost) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    for (std::size_t node = 0; node < cluster.size(); ++node) {  // they come one after the other
      cluster.start(node);
      cluster.run_for(cluster.pick(50) * kMs);
      if (node + 1 < cluster.size()) {
        ASSERT_FALSE(cluster[node].joined());
        ASSERT_TRUE(cluster[node].missing().contains(NodeId{static_cast<std::uint8_t>(cluster.size() - 1)}));
      }
    }
    ASSERT_TRUE(cluster.join());
    EXPECT_TRUE(cluster.all([](Control& control) { return control.differing() == kNoNode; }));
  }
}

TEST_P(ControlSeeds, barrier__nobody_passes_before_all_have_come) {
  constexpr std::uint64_t kBarriers = 20;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    ASSERT_TRUE(cluster.join());
    std::vector<std::uint64_t> arrived(cluster.size(), 0);
    std::vector<Time> goes_on_at(cluster.size(), cluster.now());
    std::uint64_t early = 0;
    const auto everybody_through = [&] {
      bool through = true;
      for (std::size_t node = 0; node < cluster.size(); ++node) {
        const bool passed = arrived[node] == 0 || cluster[node].barrier_passed(arrived[node]);
        if (passed && std::ranges::min(arrived) < arrived[node]) ++early;
        if (passed && arrived[node] < kBarriers && cluster.now() >= goes_on_at[node]) {
          arrived[node] = cluster[node].arrive_at_barrier();
          goes_on_at[node] = cluster.now().after(cluster.pick(30) * kMs);
          cluster.poke(node);
        }
        through &= arrived[node] == kBarriers && cluster[node].barrier_passed(kBarriers);
      }
      return through;
    };
    ASSERT_TRUE(cluster.run(60 * kSecond, everybody_through));
    EXPECT_EQ(early, 0U);
  }
}

TEST_P(ControlSeeds, region__all_agree_on_id_and_place_in_any_order_of_opening) {
  constexpr std::size_t kRegions = 5;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    ASSERT_TRUE(cluster.join());
    std::vector<Opening> openings;
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      for (std::size_t region = 0; region < kRegions; ++region) {
        openings.push_back(
            Opening{.node = node, .wanted = wish("r" + std::to_string(region), (region + 1) << 20)});
      }
    }
    for (std::size_t i = openings.size(); i > 1; --i) std::swap(openings[i - 1], openings[cluster.pick(i)]);
    for (Opening& opening : openings) {
      opening.start(cluster);
      cluster.run(cluster.pick(10) * kMs, [&] { return all_done(cluster, openings); });
    }
    ASSERT_TRUE(cluster.run(30 * kSecond, [&] { return all_done(cluster, openings); }));
    for (const Opening& one : openings) {
      for (const Opening& other : openings) {
        if (one.wanted.name == other.wanted.name) {
          EXPECT_EQ(one.got.id, other.got.id);
          EXPECT_EQ(one.got.offset, other.got.offset);
          EXPECT_EQ(one.got.bytes, one.wanted.bytes);
        } else {
          EXPECT_NE(one.got.id, other.got.id);
          const bool before = one.got.offset + one.got.bytes <= other.got.offset;
          const bool after = other.got.offset + other.got.bytes <= one.got.offset;
          EXPECT_TRUE(before || after) << "regions overlap";
        }
      }
      EXPECT_LT(one.got.id, kRegionsMax);
      EXPECT_EQ(one.got.offset % kAlign, 0U);
    }
  }
}

TEST_P(ControlSeeds, region__nobody_is_all_active_before_all_have_mapped_it) {
  ControlNetwork cluster(GetParam(), 7, kFoul);
  ASSERT_TRUE(cluster.join());
  std::vector<Opening> openings;
  for (std::size_t node = 0; node < cluster.size(); ++node)
    openings.push_back({.node = node, .wanted = wish("x", 9)});
  for (Opening& opening : openings) opening.start(cluster);
  const std::size_t last = cluster.size() - 1;
  const auto others_active = [&] {
    bool all = true;
    for (std::size_t node = 0; node < last; ++node) {
      EXPECT_FALSE(openings[node].done(cluster));
      all &= openings[node].active;
    }
    return all;
  };
  ASSERT_TRUE(cluster.run(20 * kSecond, others_active));
  cluster.run(2 * kSecond, [&] { return !others_active(); });
  ASSERT_FALSE(openings[last].active);
  EXPECT_TRUE(cluster.run(20 * kSecond, [&] { return all_done(cluster, openings); }));
}

TEST_P(ControlSeeds, region__a_mismatch_is_seen_by_all_and_a_second_attempt_works) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    ASSERT_TRUE(cluster.join());
    std::vector<std::size_t> slots(cluster.size());
    const std::size_t odd = cluster.pick(cluster.size());
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      slots[node] = cluster[node].declare(wish("grid", node == odd ? 2 << 20 : 1 << 20));
      cluster.poke(node);
      cluster.run_for(cluster.pick(5) * kMs);
    }
    const auto all_see_it = [&] {
      for (std::size_t node = 0; node < cluster.size(); ++node) {
        if (cluster[node].region_state(slots[node]) != Control::RegionState::kDiffers) return false;
      }
      return true;
    };
    ASSERT_TRUE(cluster.run(20 * kSecond, all_see_it));
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      NodeId who = kNoNode;
      const RegionDeclaration theirs = cluster[node].differing_region(slots[node], who);
      ASSERT_NE(who, kNoNode);
      EXPECT_EQ(theirs.bytes, who.value == odd ? 2U << 20 : 1U << 20);
      EXPECT_NE(theirs.bytes, cluster[node].region(slots[node]).bytes);
      cluster[node].give_up(slots[node]);
    }
    // The odd one out gives way, and the others try again as before.
    std::vector<Opening> openings;
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      openings.push_back({.node = node, .wanted = wish("grid", 1 << 20)});
      openings.back().start(cluster);
    }
    ASSERT_TRUE(cluster.run(20 * kSecond, [&] { return all_done(cluster, openings); }));
    for (const Opening& opening : openings) {
      EXPECT_EQ(opening.got.id, openings[0].got.id);
      EXPECT_EQ(opening.got.offset, openings[0].got.offset);
    }
  }
}

// All give up and all come back with something new: whoever is first must wait for the others' second wish,
// and not fail at their first one.
TEST_P(ControlSeeds, region__a_second_attempt_with_new_options_everywhere) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    ASSERT_TRUE(cluster.join());
    std::vector<std::size_t> slots(cluster.size());
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      slots[node] = cluster[node].declare(wish("grid", (node + 1) << 20));
      cluster.poke(node);
    }
    const auto all_see_it = [&] {
      for (std::size_t node = 0; node < cluster.size(); ++node) {
        if (cluster[node].region_state(slots[node]) != Control::RegionState::kDiffers) return false;
      }
      return true;
    };
    ASSERT_TRUE(cluster.run(20 * kSecond, all_see_it));
    std::vector<Opening> openings;
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      cluster[node].give_up(slots[node]);
      openings.push_back({.node = node, .wanted = wish("grid", 64 << 20)});
    }
    for (std::size_t i = openings.size(); i > 1; --i) std::swap(openings[i - 1], openings[cluster.pick(i)]);
    for (Opening& opening : openings) {
      opening.start(cluster);
      ASSERT_NE(cluster[opening.node].region_state(opening.slot), Control::RegionState::kDiffers)
          << "node " << opening.node << " fails at what the others wanted before";
      cluster.run(cluster.pick(20) * kMs, [&] { return all_done(cluster, openings); });
    }
    ASSERT_TRUE(cluster.run(20 * kSecond, [&] { return all_done(cluster, openings); }));
    for (const Opening& opening : openings) {
      EXPECT_EQ(opening.got.id, openings[0].got.id);
      EXPECT_EQ(opening.got.offset, openings[0].got.offset);
    }
  }
}

TEST_P(ControlSeeds, leave__all_may_go_and_nobody_waits_for_one_that_left) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    ASSERT_TRUE(cluster.join());
    for (std::size_t node = 0; node < cluster.size(); ++node) {
      cluster[node].leave();
      cluster.poke(node);
    }
    const Time before = cluster.now();
    const auto all_gone = [&] {  // each goes for good as soon as it may
      for (std::size_t node = 0; node < cluster.size(); ++node) {
        if (cluster[node].may_go(cluster.now())) cluster.stop(node);
      }
      return cluster.all([](Control&) { return false; });
    };
    ASSERT_TRUE(cluster.run(20 * kSecond, all_gone));
    EXPECT_LE(cluster.now().ns - before.ns, 6 * kSecond);  // the last one may have silence alone to go by
  }
}

TEST(Control, leave__not_before_the_others_have_heard) {
  ControlNetwork cluster(3, 1, kFair);
  ASSERT_TRUE(cluster.join());
  cluster.run_for(kSecond);
  cluster.set_weather({.drop_percent = 100});
  cluster[1].leave();
  cluster.poke(1);
  EXPECT_FALSE(cluster[1].may_go(cluster.now()));
  cluster.run_for(kSecond);
  EXPECT_FALSE(cluster[1].may_go(cluster.now())) << "nothing of it got through";
  cluster.set_weather(kFair);
  ASSERT_TRUE(cluster.run(kSecond, [&] { return cluster[1].may_go(cluster.now()); }));
  EXPECT_TRUE(cluster[0].leaving().contains(NodeId{1}));
  EXPECT_TRUE(cluster[2].leaving().contains(NodeId{1}));
  EXPECT_FALSE(cluster[0].leaving().contains(NodeId{2}));
}

TEST(Control, leave__goes_without_those_that_are_silent) {
  ControlNetwork cluster(3, 1, kFair);
  ASSERT_TRUE(cluster.join());
  cluster.stop(2);
  cluster[0].leave();
  cluster.poke(0);
  cluster.run_for(kSecond);
  EXPECT_FALSE(cluster[0].may_go(cluster.now())) << "node 2 has not been silent for long";
  EXPECT_TRUE(cluster.run(5 * kSecond, [&] { return cluster[0].may_go(cluster.now()); }));
}

TEST(Control, silent__after_the_time_that_was_set_and_not_before) {
  ControlNetwork cluster(3, 1, kFair);
  ASSERT_TRUE(cluster.join());
  cluster.run_for(10 * kSecond);
  EXPECT_TRUE(cluster.all([&](Control& control) { return control.silent(cluster.now()).empty(); }));
  cluster.stop(2);
  cluster.run_for(4'800 * kMs);
  EXPECT_TRUE(cluster[0].silent(cluster.now()).empty());
  cluster.run_for(300 * kMs);
  EXPECT_EQ(cluster[0].silent(cluster.now()), NodeSet::of(NodeId{2}));
  EXPECT_EQ(cluster[1].silent(cluster.now()), NodeSet::of(NodeId{2}));
  cluster[0].heard(NodeId{2}, cluster.now());  // any good frame will do
  EXPECT_TRUE(cluster[0].silent(cluster.now()).empty());
  cluster.start(2);
  cluster.poke(2);
  cluster.run_for(kSecond);
  EXPECT_TRUE(cluster[1].silent(cluster.now()).empty());
}

TEST(Control, ask__backs_off_while_it_waits_and_starts_again_at_a_change) {
  ControlSettings settings;
  settings.members = NodeSet::first(2);
  Control control(settings, Time{0});
  ControlFrames out;
  const auto asks_of = [&](Time from, std::uint64_t for_ns) {  // times of the beats that want an answer
    std::vector<std::uint64_t> asks;
    Time now = from;
    while (now < from.after(for_ns)) {
      out.clear();
      const Time next = control.tick(now, out);
      for (const ControlFrame& frame : out.all()) {
        if (frame.beat.wants_answer) asks.push_back(now.ns - from.ns);
      }
      EXPECT_GT(next, now);
      now = next;
    }
    return asks;
  };
  const std::vector<std::uint64_t> first = asks_of(Time{0}, kSecond);
  ASSERT_GE(first.size(), 20U);
  EXPECT_EQ(first[0], 0U);
  for (std::size_t i = 1; i < first.size(); ++i) {
    const std::uint64_t expected = std::min(settings.ask_ns << (i - 1), settings.ask_ns_max);
    EXPECT_EQ(first[i] - first[i - 1], expected) << i;
  }
  // Heard, and has heard us: nothing is asked any more, beats go on.
  Beat beat;
  beat.sequence = 1;
  beat.node_count = 2;
  beat.loop_count = 1;
  beat.heard = NodeSet::first(2);
  control.on_beat(NodeId{1}, beat, Time{kSecond}, out);
  ASSERT_TRUE(control.joined());
  EXPECT_TRUE(asks_of(Time{kSecond}, kSecond).empty());
  // A barrier: asks at once, and quickly again.
  control.arrive_at_barrier();
  const std::vector<std::uint64_t> second = asks_of(Time{2 * kSecond}, 4 * kMs);
  EXPECT_EQ(second, (std::vector<std::uint64_t>{0, 1 * kMs, 3 * kMs}));
}

TEST(Control, rest__a_cluster_at_rest_sends_a_beat_now_and_then_and_nothing_else) {
  ControlNetwork cluster(4, 3, kFair);
  ASSERT_TRUE(cluster.join());
  std::vector<Opening> openings;
  for (std::size_t node = 0; node < cluster.size(); ++node) {
    openings.push_back({.node = node, .wanted = wish("x", 1 << 20)});
    openings.back().start(cluster);
  }
  ASSERT_TRUE(cluster.run(kSecond, [&] { return all_done(cluster, openings); }));
  cluster.run_for(kSecond);
  const std::uint64_t before = cluster.sent(0);
  cluster.run_for(10 * kSecond);
  EXPECT_NEAR(static_cast<double>(cluster.sent(0) - before), 100, 2);  // one each beat_ns, to all at once
}

TEST(Control, beat__late_and_doubled_ones_take_nothing_back) {
  ControlSettings settings;
  settings.members = NodeSet::first(3);
  Control control(settings, Time{0});
  ControlFrames out;
  const auto beat_of = [](std::uint64_t sequence, std::uint64_t barriers, std::uint64_t heard) {
    Beat beat;
    beat.sequence = sequence;
    beat.barrier_count = barriers;
    beat.heard = NodeSet(heard);
    beat.node_count = 3;
    beat.loop_count = 1;
    return beat;
  };
  for (std::uint8_t node = 1; node < 3; ++node) control.on_beat(NodeId{node}, beat_of(9, 2, 7), Time{1}, out);
  ASSERT_TRUE(control.joined());
  EXPECT_TRUE(control.barrier_passed(2));
  for (std::uint8_t node = 1; node < 3; ++node) control.on_beat(NodeId{node}, beat_of(3, 0, 0), Time{2}, out);
  EXPECT_TRUE(control.joined());
  EXPECT_TRUE(control.barrier_passed(2));
  EXPECT_FALSE(control.barrier_passed(3));
  EXPECT_EQ(control.beat_of(NodeId{1}).sequence, 9U);
}

TEST(Control, beat__one_with_other_settings_is_named) {
  for (const int which : {0, 1, 2}) {
    ControlSettings settings;
    settings.members = NodeSet::first(3);
    settings.region_base = kRegionBase;
    Control control(settings, Time{0});
    ControlFrames out;
    Beat beat;
    beat.region_base = kRegionBase + (which == 0 ? 4096 : 0);
    beat.loop_count = which == 1 ? 2 : 1;
    beat.node_count = which == 2 ? 4 : 3;
    control.on_beat(NodeId{2}, beat, Time{1}, out);
    EXPECT_EQ(control.differing(), NodeId{2});
    EXPECT_EQ(control.beat_of(NodeId{2}), beat);
  }
}

TEST(Control, beat__strangers_and_oneself_are_not_heard) {
  ControlSettings settings;
  settings.members = NodeSet::first(2);
  Control control(settings, Time{0});
  ControlFrames out;
  Beat beat;
  beat.wants_answer = true;
  beat.heard = NodeSet::first(8);
  control.on_beat(NodeId{0}, beat, Time{1}, out);
  control.on_beat(NodeId{2}, beat, Time{1}, out);
  control.on_beat(NodeId{63}, beat, Time{1}, out);
  control.on_region(NodeId{2}, wish("x", 1), Time{1}, out);
  EXPECT_TRUE(out.all().empty());
  EXPECT_EQ(control.missing(), NodeSet::of(NodeId{1}));
}

TEST(Control, declare__the_same_again_changes_nothing) {
  ControlNetwork cluster(2, 1, kFair);
  ASSERT_TRUE(cluster.join());
  std::vector<Opening> openings{{.node = 0, .wanted = wish("x", 5)}, {.node = 1, .wanted = wish("x", 5)}};
  for (Opening& opening : openings) opening.start(cluster);
  ASSERT_TRUE(cluster.run(kSecond, [&] { return all_done(cluster, openings); }));
  const RegionDeclaration before = cluster[0].region(openings[0].slot);
  EXPECT_EQ(cluster[0].declare(wish("x", 5)), openings[0].slot);
  EXPECT_EQ(cluster[0].region(openings[0].slot), before);
  EXPECT_EQ(cluster[0].region_state(openings[0].slot), Control::RegionState::kAllActive);
}

TEST(Control, declare__more_regions_than_there_is_room_for) {
  ControlNetwork cluster(2, 1, kFair);
  for (std::size_t i = 0; i < kRegionsMax; ++i) {
    EXPECT_EQ(cluster[0].declare(wish("r" + std::to_string(i), 1)), i);
  }
  EXPECT_EQ(cluster[0].declare(wish("one more", 1)), kRegionsMax);
  EXPECT_EQ(cluster[0].declare(wish("r7", 1)), 7U);
}

// An id names a region on the wire, so it stays below kRegionsMax however often somebody changes his mind.
TEST(Control, declare__ids_do_not_run_out_by_trying_again) {
  ControlSettings settings;
  settings.members = NodeSet::first(1);
  Control control(settings, Time{0});
  for (std::uint64_t attempt = 1; attempt <= 3 * kRegionsMax; ++attempt) {
    const std::size_t slot = control.declare(wish("x", attempt));
    ASSERT_EQ(control.region_state(slot), Control::RegionState::kAgreed);
    ASSERT_LT(control.region(slot).id, kRegionsMax) << "attempt " << attempt;
  }
}

TEST(Control, region__those_who_wait_follow_it_to_another_place) {
  ControlNetwork cluster(3, 1, kFair);
  ASSERT_TRUE(cluster.join());
  std::vector<Opening> openings;
  for (std::size_t node = 0; node < 3; ++node)
    openings.push_back({.node = node, .wanted = wish("x", 1 << 20)});
  openings[1].start(cluster);
  for (const std::uint64_t mb :
       {1U, 9U, 1U}) {  // node 0, while node 2 has not come: the larger one moves the region
    openings[0].wanted = wish("x", mb << 20);
    openings[0].start(cluster);
    cluster.run_for(100 * kMs);
  }
  EXPECT_FALSE(openings[1].done(cluster));
  openings[2].start(cluster);
  ASSERT_TRUE(cluster.run(kSecond, [&] { return all_done(cluster, openings); }));
  for (const Opening& opening : openings) EXPECT_EQ(opening.got.offset, openings[0].got.offset);
  EXPECT_GT(openings[0].got.offset, 0U);
}

// Nodes that change their minds at any moment: whoever thinks that all are active stands where all the others
// stand.
TEST_P(ControlSeeds, region__after_any_history_of_attempts_all_are_at_the_same_place) {
  for (std::uint64_t seed = 1; seed <= 4 * kSeeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ControlNetwork cluster(GetParam(), seed, kFoul);
    ASSERT_TRUE(cluster.join());
    std::vector<Opening> openings;
    for (std::size_t node = 0; node < cluster.size(); ++node)
      openings.push_back({.node = node, .wanted = {}});
    for (int change = 0; change < 6; ++change) {
      for (std::size_t node = 0; node < cluster.size(); ++node) {
        if (openings[node].active || cluster.pick(2) == 0) continue;  // mapped: it stays
        openings[node].wanted = wish("x", (1 + 4 * cluster.pick(3)) << 20);
        openings[node].start(cluster);
        cluster.run(cluster.pick(4) * kMs, [&] { return all_done(cluster, openings); });
      }
    }
    for (Opening& opening : openings) {
      if (opening.active) continue;
      opening.wanted = wish("x", 1 << 20);
      opening.start(cluster);
    }
    cluster.run(5 * kSecond, [&] { return all_done(cluster, openings); });
    for (Opening& one : openings) {
      if (!one.done(cluster)) continue;
      for (const Opening& other : openings) {
        ASSERT_TRUE(other.active);
        EXPECT_EQ(one.got.id, other.got.id);
        EXPECT_EQ(one.got.offset, other.got.offset);
        EXPECT_EQ(one.got.bytes, other.got.bytes);
      }
    }
  }
}

}  // namespace
}  // namespace pagewire::protocol
