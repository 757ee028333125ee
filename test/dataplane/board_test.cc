// The board between any number of threads that post and the one that takes: nothing is lost, nothing comes
// twice, what was refused stays, and who finds it full is told.
#include "dataplane/board.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace pagewire::dataplane {
namespace {

// More than a machine word, so that a half-written one shows.
struct Thing {
  std::uint64_t number = 0;
  std::uint64_t copies[3] = {};
  static Thing of(std::uint64_t number) {
    return {.number = number, .copies = {number, ~number, number * 3}};
  }
  bool whole() const { return copies[0] == number && copies[1] == ~number && copies[2] == number * 3; }
};

std::vector<std::uint64_t> take_all(Board<Thing>& board) {
  std::vector<std::uint64_t> numbers;
  board.take([&](const Thing& thing) {
    EXPECT_TRUE(thing.whole());
    numbers.push_back(thing.number);
    return true;
  });
  std::ranges::sort(numbers);
  return numbers;
}

TEST(Board, take__what_was_posted_and_only_once) {
  Board<Thing> board;
  EXPECT_TRUE(board.empty());
  EXPECT_FALSE(board.take([](const Thing&) { return true; }));
  EXPECT_TRUE(board.post(Thing::of(1)));
  EXPECT_TRUE(board.post(Thing::of(2)));
  EXPECT_FALSE(board.empty());
  EXPECT_EQ(take_all(board), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_TRUE(board.empty());
  EXPECT_FALSE(board.take([](const Thing&) { return true; }));
}

TEST(Board, take__a_refused_one_stays) {
  Board<Thing> board;
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(board.post(Thing::of(i)));
  EXPECT_TRUE(board.take([](const Thing& thing) { return thing.number % 2 == 0; }));
  EXPECT_FALSE(board.empty());
  EXPECT_FALSE(board.take([](const Thing&) { return false; })) << "nothing was taken";
  EXPECT_EQ(take_all(board), (std::vector<std::uint64_t>{1, 3, 5, 7, 9}));
  EXPECT_TRUE(board.empty());
}

TEST(Board, post__refused_by_a_full_board_until_one_is_taken) {
  Board<Thing> board;
  for (std::uint64_t i = 0; i < Board<Thing>::kPlaces; ++i) ASSERT_TRUE(board.post(Thing::of(i)));
  EXPECT_FALSE(board.post(Thing::of(1'000)));
  EXPECT_TRUE(board.take([](const Thing& thing) { return thing.number == 41; }));
  EXPECT_TRUE(board.post(Thing::of(1'001)));
  EXPECT_FALSE(board.post(Thing::of(1'002)));
  const std::vector<std::uint64_t> numbers = take_all(board);
  EXPECT_EQ(numbers.size(), Board<Thing>::kPlaces);
  EXPECT_EQ(numbers.back(), 1'001U);
  EXPECT_FALSE(std::ranges::binary_search(numbers, 41U));
}

// Whoever is posted to while it takes sees it the next time.
TEST(Board, take__may_post_itself) {
  Board<Thing> board;
  ASSERT_TRUE(board.post(Thing::of(1)));
  EXPECT_TRUE(board.take([&](const Thing& thing) {
    EXPECT_EQ(thing.number, 1U);
    EXPECT_TRUE(board.post(Thing::of(2)));
    return true;
  }));
  EXPECT_EQ(take_all(board), (std::vector<std::uint64_t>{2}));
}

// Posters fill the board again and again; the taker refuses some, at random.
TEST(Board, many_threads__nothing_is_lost_or_doubled) {
  constexpr std::uint64_t kPosters = 6;
  constexpr std::uint64_t kEach = 50'000;
  Board<Thing> board;
  std::atomic<std::uint64_t> full_count{0};
  std::vector<std::thread> posters;
  for (std::uint64_t poster = 0; poster < kPosters; ++poster) {
    posters.emplace_back([&, poster] {
      for (std::uint64_t i = 0; i < kEach; ++i) {
        while (!board.post(Thing::of(poster * kEach + i))) {
          full_count.fetch_add(1, std::memory_order_relaxed);
          std::this_thread::yield();
        }
      }
    });
  }
  std::vector<std::uint32_t> seen(kPosters * kEach, 0);
  std::mt19937_64 random(4'711);
  std::uint64_t refused = 0;
  std::uint64_t broken = 0;
  std::uint64_t taken = 0;
  const auto serve = [&](const Thing& thing) {
    if (!thing.whole() || thing.number >= seen.size()) {
      ++broken;
      return true;
    }
    if (random() % 8 == 0) {
      ++refused;
      return false;
    }
    ++seen[thing.number];
    ++taken;
    return true;
  };
  while (taken + broken < kPosters * kEach) {
    if (!board.take(serve)) std::this_thread::yield();
  }
  for (std::thread& poster : posters) poster.join();
  EXPECT_TRUE(board.empty());
  EXPECT_EQ(broken, 0U);
  EXPECT_EQ(std::ranges::count(seen, 1U), static_cast<std::ptrdiff_t>(kPosters * kEach));
  EXPECT_GT(refused, 0U);
  EXPECT_GT(full_count.load(), 0U) << "it was never full";
}

// A thread that is interrupted in the middle of posting, by a handler that posts.
Board<Thing>* board_of_handler = nullptr;
std::atomic<std::uint64_t> posted_in_handler{0};

TEST(Board, post__in_a_signal_handler_that_interrupts_a_post) {
  Board<Thing> board;
  board_of_handler = &board;
  posted_in_handler = 0;
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {
    if (board_of_handler->post(Thing::of(1'000'000 + posted_in_handler.load())))
      posted_in_handler.fetch_add(1);
  };
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  constexpr std::uint64_t kPosts = 20'000;
  std::atomic<bool> done{false};
  std::uint64_t own = 0;
  std::thread poster([&] {
    while (own < kPosts) own += board.post(Thing::of(own)) ? 1 : 0;
    done.store(true);
    while (done.load()) std::this_thread::yield();  // alive as long as it is signalled
  });
  const pthread_t id = poster.native_handle();
  std::uint64_t taken_own = 0;
  std::uint64_t taken_handlers = 0;
  const auto serve = [&](const Thing& thing) {
    EXPECT_TRUE(thing.whole());
    ++(thing.number < 1'000'000 ? taken_own : taken_handlers);
    return true;
  };
  while (!done.load()) {
    pthread_kill(id, SIGUSR1);
    board.take(serve);
  }
  done.store(false);
  poster.join();
  while (board.take(serve)) {
  }
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_EQ(taken_own, kPosts);
  EXPECT_EQ(taken_handlers, posted_in_handler.load());
  EXPECT_GT(taken_handlers, 100U);
}

}  // namespace
}  // namespace pagewire::dataplane
