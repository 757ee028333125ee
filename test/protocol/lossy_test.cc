// Many pages over a network that loses, doubles and reorders, by a seed: the invariants after every step, and
// when the network is whole again everything that was asked is granted and all comes to rest.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

#include "test/protocol/cluster.h"

namespace pagewire::protocol {
namespace {

struct Weather {
  std::uint32_t seed = 0;
  std::uint32_t rounds = 8;
  std::uint64_t hold_ns = 0;
  Placement placement = Placement::kCyclic;
};

[[maybe_unused]] std::ostream& operator<<(std::ostream& out, const Weather& weather) {
  return out << "seed " << weather.seed << " rounds " << weather.rounds << " hold_ns " << weather.hold_ns;
}

constexpr std::uint32_t kNodeCount = 4;
constexpr std::uint32_t kPageCount = 8;
constexpr std::uint32_t kSteps = 500'000;

class Lossy : public testing::TestWithParam<Weather> {
 protected:
  Lossy()
      : random_(GetParam().seed),
        cluster_({.nodes = kNodeCount,
                  .pages = kPageCount,
                  .rounds = GetParam().rounds,
                  .hold_ns = GetParam().hold_ns,
                  .placement = GetParam().placement}) {
    for (std::uint32_t node = 0; node < kNodeCount; ++node) {
      cluster_.view(node).retry_ns = 50'000;
      cluster_.view(node).retry_ns_max = 800'000;
      cluster_.view(node).grace_ns = GetParam().hold_ns / 4;
    }
  }

  std::uint32_t below(std::uint32_t bound) {
    return std::uniform_int_distribution<std::uint32_t>(0, bound - 1)(random_);
  }
  bool percent(std::uint32_t chance) { return below(100) < chance; }

  void access_something() {
    const std::uint32_t node = below(kNodeCount);
    const std::uint32_t page = below(kPageCount);
    const Access access = percent(50) ? Access::kRead : Access::kWrite;
    if (allows(cluster_.entry(node, page).permission, access)) return;
    busy_ += cluster_.fault(node, access, page) == Outcome::kBusy ? 1 : 0;
  }

  // Whoever may write, writes.
  void store_something() {
    const std::uint32_t page = below(kPageCount);
    for (std::uint32_t node = 0; node < kNodeCount; ++node) {
      if (cluster_.entry(node, page).permission != Permission::kWrite) continue;
      cluster_.store(node, page);
      ++stores_;
    }
  }

  // A message among the oldest, so that what is late is not late for ever.
  void deliver_something() {
    if (cluster_.wire.empty()) return;
    const std::size_t place =
        below(static_cast<std::uint32_t>(std::min<std::size_t>(cluster_.wire.size(), 12)));
    if (percent(10)) {
      cluster_.wire.erase(cluster_.wire.begin() + static_cast<std::ptrdiff_t>(place));
      return;
    }
    if (percent(5)) {
      cluster_.handle(Flying(cluster_.wire[place]));  // and again, later
      return;
    }
    cluster_.deliver(place);
  }

  void let_time_pass() {
    cluster_.now = cluster_.now.after(below(10'000));
    for (std::uint32_t node = 0; node < kNodeCount; ++node) expire_due(node);
  }

  void expire_due(std::uint32_t node) {
    Rounds& rounds = cluster_.rounds(node);
    if (rounds.next_deadline() > cluster_.now) return;
    std::uint16_t at = rounds.next_expired(cluster_.now, 0);
    while (at != kNoRound) {
      cluster_.time_out(node, rounds[at].page.index);
      at = rounds.next_expired(cluster_.now, static_cast<std::uint16_t>(at + 1));
    }
  }

  void check_monotonic() {
    for (std::uint32_t node = 0; node < kNodeCount; ++node) {
      for (std::uint32_t page = 0; page < kPageCount; ++page) {
        const PageEntry& entry = cluster_.entry(node, page);
        PageEntry& seen = seen_[node][page];
        ASSERT_TRUE(entry.version >= seen.version && entry.epoch >= seen.epoch && entry.floor >= seen.floor)
            << "I5";
        seen = entry;
      }
    }
  }

  bool all_at_rest() {
    std::size_t in_use = 0;
    for (std::uint32_t node = 0; node < kNodeCount; ++node) in_use += cluster_.rounds(node).in_use();
    return in_use == 0 && cluster_.wire.empty();
  }

  // The network is whole: nothing is lost any more.
  void come_to_rest() {
    for (int left = 2000; left > 0 && !all_at_rest(); --left) {
      cluster_.deliver_all();
      Time next = kNever;
      for (std::uint32_t node = 0; node < kNodeCount; ++node)
        next = std::min(next, cluster_.rounds(node).next_deadline());
      if (next != kNever) cluster_.now = std::max(cluster_.now, next);
      for (std::uint32_t node = 0; node < kNodeCount; ++node) expire_due(node);
    }
    ASSERT_TRUE(all_at_rest()) << "seed " << GetParam().seed;
  }

  std::mt19937 random_;
  Cluster cluster_;
  std::array<std::array<PageEntry, kPageCount>, kNodeCount> seen_{};
  std::uint64_t stores_ = 0;
  std::uint64_t busy_ = 0;
};

TEST_P(Lossy, StaysCoherentAndEnds) {
  for (std::uint32_t step = 0; step < kSteps; ++step) {
    const std::uint32_t choice = below(100);
    if (choice < 15) {
      access_something();
    } else if (choice < 25) {
      store_something();
    } else if (choice < 85) {
      deliver_something();
    } else {
      let_time_pass();
    }
    if (step % 16 == 0) check_monotonic();
    ASSERT_FALSE(HasFailure()) << "seed " << GetParam().seed << " step " << step;
  }
  RecordProperty("stores", std::to_string(stores_));
  RecordProperty("busy", std::to_string(busy_));
  EXPECT_GT(stores_, 1000U) << "it shows nothing if hardly anything is granted";
  come_to_rest();
  std::uint64_t hand_overs = 0;
  for (std::uint32_t page = 0; page < kPageCount; ++page) {
    std::uint32_t owners = 0;
    for (std::uint32_t node = 0; node < kNodeCount; ++node) {
      if (!cluster_.entry(node, page).owner) continue;
      ++owners;
      hand_overs += cluster_.entry(node, page).epoch.value;
    }
    EXPECT_EQ(owners, 1U) << "I4, page " << page;
  }
  RecordProperty("hand_overs", std::to_string(hand_overs));
  EXPECT_GT(hand_overs, 1000U);
  for (std::uint32_t node = 0; node < kNodeCount; ++node) {  // and it works on
    for (std::uint32_t page = 0; page < kPageCount; ++page) {
      ASSERT_EQ(cluster_.fault(node, Access::kWrite, page), Outcome::kDone);
      come_to_rest();
      EXPECT_EQ(cluster_.entry(node, page).permission, Permission::kWrite);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Lossy,
                         testing::Values(Weather{.seed = 1}, Weather{.seed = 2, .hold_ns = 10'000},
                                         Weather{.seed = 3, .rounds = 3, .placement = Placement::kFirstTouch},
                                         Weather{.seed = 4, .rounds = 2, .hold_ns = 30'000}));

}  // namespace
}  // namespace pagewire::protocol
