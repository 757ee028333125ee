// A loop's doorbell: no wake-up is lost, and ringing an awake loop costs no system call.
#include "dataplane/doorbell.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

namespace pagewire::dataplane {
namespace {

bool readable(const Doorbell& bell, int timeout_ms) {
  pollfd waiting{.fd = bell.fd(), .events = POLLIN, .revents = 0};
  return poll(&waiting, 1, timeout_ms) == 1;
}

TEST(Doorbell, ring__does_nothing_while_the_loop_is_awake) {
  Doorbell bell;
  EXPECT_FALSE(bell.ring());
  EXPECT_FALSE(readable(bell, 0));
}

TEST(Doorbell, ring__wakes_once_an_armed_loop) {
  Doorbell bell;
  bell.arm();
  EXPECT_FALSE(readable(bell, 0));
  EXPECT_TRUE(bell.ring());
  EXPECT_FALSE(bell.ring());
  EXPECT_TRUE(readable(bell, 0));
}

TEST(Doorbell, armed_for_the_urgent__sleeps_through_the_rest) {
  Doorbell bell;
  bell.arm(Ringing::kUrgent);
  EXPECT_FALSE(bell.ring(false));
  EXPECT_FALSE(readable(bell, 0));
  EXPECT_TRUE(bell.ring(true));
  EXPECT_TRUE(readable(bell, 0));
  bell.drain();
  bell.arm(Ringing::kAny);
  EXPECT_TRUE(bell.ring(false));
}

TEST(Doorbell, disarm__leaves_it_unarmed_and_a_ring_that_came_readable_until_it_is_drained) {
  Doorbell bell;
  bell.arm();
  bell.ring();
  bell.disarm();
  EXPECT_TRUE(readable(bell, 0));
  bell.drain();
  EXPECT_FALSE(readable(bell, 0));
  EXPECT_FALSE(bell.ring());
  bell.arm();
  EXPECT_TRUE(bell.ring());
}

// Two loops hand a number to and fro and sleep in between. A lost wake-up shows as a poll that runs out of
// time.
TEST(Doorbell, hand_overs__none_of_ten_thousand_is_lost) {
  constexpr std::uint32_t kRounds = 10'000;
  std::array<Doorbell, 2> bells;
  std::array<std::atomic<std::uint32_t>, 2> mail{};
  std::array<std::uint32_t, 2> sleeps{};
  std::atomic<bool> lost{false};
  const auto side = [&](std::size_t me) {
    const std::size_t other = 1 - me;
    for (std::uint32_t round = 1; round <= kRounds && !lost; ++round) {
      if (me == 0) {
        mail[other].store(round, std::memory_order_relaxed);
        bells[other].ring();
      }
      while (mail[me].load(std::memory_order_relaxed) != round && !lost) {
        bells[me].arm();
        if (mail[me].load(std::memory_order_relaxed) != round) {
          ++sleeps[me];
          if (!readable(bells[me], 5000)) lost = true;
        }
        bells[me].disarm();
        bells[me].drain();
      }
      if (me == 1) {
        mail[other].store(round, std::memory_order_relaxed);
        bells[other].ring();
      }
    }
  };
  const auto start = std::chrono::steady_clock::now();
  std::thread second(side, 1);
  side(0);
  second.join();
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_FALSE(lost);
  EXPECT_GT(sleeps[0] + sleeps[1], kRounds / 10) << "hardly ever slept: this tested nothing";
  EXPECT_LT(took, std::chrono::seconds(20));
  RecordProperty(
      "hand_over_ns",
      std::to_string(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count() / kRounds / 2));
}

}  // namespace
}  // namespace pagewire::dataplane
