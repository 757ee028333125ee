// The drive of a loop: one has it at a time, whoever tries or waits for it, and nobody who waits is
// forgotten.
#include "dataplane/drive.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace pagewire::dataplane {
namespace {

// A thread that was forgotten cannot be joined: says so and ends the program.
void require_soon(const char* what, const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) {
      std::fprintf(stderr, "%s: not within 60 s; a wake-up was lost\n", what);
      std::abort();
    }
    std::this_thread::yield();
  }
}

bool is_asleep(pid_t thread_id) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread_id) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t at = text.rfind(')');
  return at != std::string::npos && at + 2 < text.size() && text[at + 2] == 'S';
}

TEST(Drive, try_take__only_while_nobody_has_it) {
  Drive drive;
  EXPECT_FALSE(drive.try_take()) << "it is the starting loop's until that lets it go";
  drive.release();
  EXPECT_TRUE(drive.try_take());
  EXPECT_FALSE(drive.try_take());
  drive.release();
  drive.take();
  EXPECT_FALSE(drive.try_take());
  drive.release();
  EXPECT_TRUE(drive.try_take());
}

TEST(Drive, take__sleepers_get_it_one_after_the_other) {
  for (const std::size_t count : {1U, 2U, 5U}) {
    for (int round = 0; round < 100; ++round) {
      Drive drive;  // taken: by this thread
      std::array<std::atomic<pid_t>, 5> ids{};
      std::atomic<std::size_t> had_it{0};
      std::vector<std::thread> sleepers;
      for (std::size_t i = 0; i < count; ++i) {
        sleepers.emplace_back([&, i] {
          ids[i].store(gettid());
          drive.take();
          had_it.fetch_add(1);
          drive.release();
        });
      }
      for (std::size_t i = 0; i < count; ++i) {
        require_soon("falling asleep", [&] { return ids[i].load() != 0 && is_asleep(ids[i].load()); });
      }
      EXPECT_EQ(had_it.load(), 0U);
      drive.release();
      require_soon("sleepers", [&] { return had_it.load() == count; });
      for (std::thread& sleeper : sleepers) sleeper.join();
      EXPECT_TRUE(drive.try_take());
    }
  }
}

// Who had to wait for it and has it is not one who waits.
TEST(Drive, wanted__while_another_waits_and_not_after) {
  Drive drive;
  EXPECT_FALSE(drive.wanted());
  std::atomic<pid_t> id{0};
  std::atomic<bool> has_it{false};
  std::atomic<bool> let_go{false};
  std::thread sleeper([&] {
    id.store(gettid());
    drive.take();
    has_it.store(true);
    while (!let_go.load()) std::this_thread::yield();
    drive.release();
  });
  require_soon("falling asleep", [&] { return id.load() != 0 && is_asleep(id.load()); });
  EXPECT_TRUE(drive.wanted());
  drive.release();
  require_soon("the sleeper", [&] { return has_it.load(); });
  EXPECT_FALSE(drive.wanted());
  let_go.store(true);
  sleeper.join();
}

// Threads that wait for it and threads that only try, on more threads than cores. The counters are no
// atomics: the drive orders them.
TEST(Drive, many_takers_of_both_kinds__one_at_a_time_and_all_get_on) {
  constexpr std::size_t kWaiting = 4;
  constexpr std::size_t kTrying = 4;
  constexpr std::uint64_t kTurns = 20'000;
  Drive drive;
  drive.release();
  std::atomic<int> inside{0};
  std::atomic<std::uint64_t> two_inside{0};
  std::uint64_t count = 0;
  std::array<std::uint64_t, 16> shadow{};  // more than can be written at once
  std::atomic<std::uint64_t> torn{0};
  std::atomic<std::size_t> finished{0};
  const auto work = [&](std::uint64_t turn) {
    if (inside.fetch_add(1) != 0) two_inside.fetch_add(1);
    ++count;
    for (std::uint64_t& word : shadow) {
      if (word + 1 != count) torn.fetch_add(1);
      word = count;
    }
    if (turn % 64 == 0) std::this_thread::yield();  // so that others come while it is taken
    inside.fetch_sub(1);
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kWaiting; ++i) {
    threads.emplace_back([&] {
      for (std::uint64_t turn = 0; turn < kTurns; ++turn) {
        drive.take();
        work(turn);
        drive.release();
      }
      finished.fetch_add(1);
    });
  }
  for (std::size_t i = 0; i < kTrying; ++i) {
    threads.emplace_back([&] {
      for (std::uint64_t turn = 0; turn < kTurns;) {
        if (!drive.try_take()) {
          std::this_thread::yield();
          continue;
        }
        work(turn++);
        drive.release();
      }
      finished.fetch_add(1);
    });
  }
  require_soon("all takers", [&] { return finished.load() == kWaiting + kTrying; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(two_inside.load(), 0U);
  EXPECT_EQ(torn.load(), 0U);
  EXPECT_EQ(count, (kWaiting + kTrying) * kTurns);
}

// One sleeps for it while others take and release as fast as they can; each of its turns must come. Who is
// awake may be faster for long, but every release wakes it, and with the last one it comes.
TEST(Drive, take__a_sleeper_among_thieves_is_always_woken) {
  constexpr int kRounds = 2'000;
  Drive drive;
  drive.release();
  std::atomic<bool> stop{false};
  std::vector<std::thread> thieves;
  for (int i = 0; i < 2; ++i) {
    thieves.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        if (drive.try_take()) drive.release();
      }
    });
  }
  std::atomic<int> rounds{0};
  std::thread sleeper([&] {
    for (int i = 0; i < kRounds; ++i) {
      drive.take();
      rounds.fetch_add(1);
      drive.release();
    }
  });
  require_soon("the sleeper", [&] { return rounds.load() == kRounds; });
  stop.store(true);
  sleeper.join();
  for (std::thread& thief : thieves) thief.join();
  EXPECT_TRUE(drive.try_take());
}

}  // namespace
}  // namespace pagewire::dataplane
