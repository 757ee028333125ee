// The bounded pool of rounds: places, the share of local faults, deadlines.
#include "protocol/round.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace pagewire::protocol {
namespace {

struct Pool {
  explicit Pool(std::size_t count) : storage(count), deadlines(count), rounds(storage, deadlines) {}
  std::vector<Round> storage;
  std::vector<Time> deadlines;
  Rounds rounds;
};

TEST(Rounds, GivesEachPlaceOnceAndTakesItBack) {
  Pool pool(5);
  std::set<std::uint16_t> taken;
  for (std::uint32_t i = 0; i < 5; ++i) {
    const std::uint16_t index = pool.rounds.take(PageId{7, i}, false);
    ASSERT_NE(index, kNoRound);
    EXPECT_TRUE(taken.insert(index).second);
    EXPECT_EQ(pool.rounds[index].page, (PageId{7, i}));
  }
  EXPECT_EQ(pool.rounds.take(PageId{7, 9}, false), kNoRound);
  EXPECT_EQ(pool.rounds.in_use(), 5U);
  EXPECT_EQ(pool.rounds.capacity(), 5U);
  pool.rounds.give_back(3);
  EXPECT_EQ(pool.rounds.take(PageId{7, 9}, false), 3);
}

TEST(Rounds, ComesBackClean) {
  Pool pool(1);
  const std::uint16_t index = pool.rounds.take(PageId{1, 1}, false);
  Round& round = pool.rounds[index];
  round.stage = Stage::kCollecting;
  round.wants_write = true;
  round.promised[63] = Version{9};
  round.deferred_count = 3;
  round.attempts = 9;
  pool.rounds.arm(index, Time{5});
  pool.rounds.give_back(index);
  ASSERT_EQ(pool.rounds.take(PageId{2, 2}, false), index);
  Round clean;
  clean.page = PageId{2, 2};
  EXPECT_EQ(pool.rounds[index], clean);
  EXPECT_EQ(pool.rounds.deadline(index), kNever);
}

TEST(Rounds, LocalFaultsLeaveAReserve) {
  for (const auto& [capacity, share] :
       {std::pair{1U, 0U}, {2U, 1U}, {4U, 3U}, {5U, 3U}, {8U, 6U}, {64U, 48U}}) {
    Pool pool(capacity);
    std::uint32_t local = 0;
    while (pool.rounds.has_room_for_local()) {
      ASSERT_NE(pool.rounds.take(PageId{0, local}, true), kNoRound);
      ++local;
    }
    EXPECT_EQ(local, share) << capacity;
    EXPECT_EQ(pool.rounds.take(PageId{0, 99}, true), kNoRound);
    EXPECT_NE(pool.rounds.take(PageId{0, 99}, false), kNoRound) << "others are still served";
  }
}

TEST(Rounds, ALocalPlaceCountsUntilItIsGivenBackOrNoLongerLocal) {
  Pool pool(4);
  std::uint16_t index = kNoRound;
  for (std::uint32_t i = 0; i < 3; ++i) index = pool.rounds.take(PageId{0, i}, true);
  EXPECT_FALSE(pool.rounds.has_room_for_local());
  pool.rounds.set_local(index, false);
  pool.rounds.set_local(index, false);
  EXPECT_TRUE(pool.rounds.has_room_for_local());
  pool.rounds.set_local(index, true);
  EXPECT_FALSE(pool.rounds.has_room_for_local());
  pool.rounds.give_back(index);
  EXPECT_TRUE(pool.rounds.has_room_for_local());
}

TEST(Rounds, NextDeadlineIsNeverLate) {
  Pool pool(4);
  EXPECT_EQ(pool.rounds.next_deadline(), kNever);
  const std::uint16_t first = pool.rounds.take(PageId{0, 0}, false);
  const std::uint16_t second = pool.rounds.take(PageId{0, 1}, false);
  pool.rounds.arm(first, Time{100});
  pool.rounds.arm(second, Time{50});
  EXPECT_EQ(pool.rounds.next_deadline(), Time{50});
  pool.rounds.arm(second, Time{200});
  EXPECT_LE(pool.rounds.next_deadline(), Time{100});
  EXPECT_EQ(pool.rounds.next_expired(Time{60}, 0), kNoRound);
  EXPECT_EQ(pool.rounds.next_deadline(), Time{100}) << "exact after a full pass";
  pool.rounds.give_back(first);
  EXPECT_EQ(pool.rounds.next_expired(Time{150}, 0), kNoRound);
  EXPECT_EQ(pool.rounds.next_deadline(), Time{200});
  pool.rounds.give_back(second);
  EXPECT_EQ(pool.rounds.next_deadline(), kNever);
}

TEST(Rounds, NextExpiredMeetsEachOne) {
  Pool pool(6);
  for (std::uint32_t i = 0; i < 6; ++i) {
    const std::uint16_t index = pool.rounds.take(PageId{0, i}, false);
    pool.rounds.arm(index, Time{i % 2 == 0 ? 10U : 1000U});
  }
  std::vector<std::uint32_t> met;
  std::uint16_t at = pool.rounds.next_expired(Time{10}, 0);
  while (at != kNoRound) {
    met.push_back(pool.rounds[at].page.index);
    pool.rounds.arm(at, Time{500});
    at = pool.rounds.next_expired(Time{10}, static_cast<std::uint16_t>(at + 1));
  }
  EXPECT_EQ(met, (std::vector<std::uint32_t>{0, 2, 4}));
  EXPECT_EQ(pool.rounds.next_deadline(), Time{500});
}

TEST(Rounds, UnequalStorageUsesTheShorter) {
  std::vector<Round> storage(4);
  std::vector<Time> deadlines(2);
  Rounds rounds(storage, deadlines);
  EXPECT_EQ(rounds.capacity(), 2U);
}

TEST(Rounds, EmptyPoolIsBusy) {
  Pool pool(0);
  EXPECT_EQ(pool.rounds.take(PageId{}, false), kNoRound);
  EXPECT_FALSE(pool.rounds.has_room_for_local());
}

TEST(Rounds, CountsEvents) {
  Pool pool(1);
  pool.rounds.count(Event::kRefused);
  pool.rounds.count(Event::kRefused);
  EXPECT_EQ(pool.rounds.events(Event::kRefused), 2U);
  EXPECT_EQ(pool.rounds.events(Event::kBusy), 0U);
}

}  // namespace
}  // namespace pagewire::protocol
