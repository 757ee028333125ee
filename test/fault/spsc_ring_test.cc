// The ring alone, and between two threads.
#include "fault/spsc_ring.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>

namespace pagewire::fault::testing {
namespace {

TEST(SpscRing, constructor__wants_a_power_of_two) {
  EXPECT_THROW(SpscRing<int>(0), std::invalid_argument);
  EXPECT_THROW(SpscRing<int>(3), std::invalid_argument);
  EXPECT_EQ(SpscRing<int>(1).capacity(), 1U);
  EXPECT_EQ(SpscRing<int>(8).capacity(), 8U);
}

TEST(SpscRing, empty_ring__shows_nothing) {
  SpscRing<int> ring(4);
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.peek(), nullptr);
}

TEST(SpscRing, full_ring__refuses_until_one_is_popped) {
  SpscRing<int> ring(4);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.try_push(i));
  EXPECT_FALSE(ring.try_push(4));
  ASSERT_NE(ring.peek(), nullptr);
  EXPECT_EQ(*ring.peek(), 0);
  EXPECT_EQ(*ring.peek(), 0);  // looking takes nothing away
  ring.pop();
  EXPECT_TRUE(ring.try_push(4));
  EXPECT_FALSE(ring.try_push(5));
  for (int i = 1; i <= 4; ++i) {
    ASSERT_NE(ring.peek(), nullptr);
    EXPECT_EQ(*ring.peek(), i);
    ring.pop();
  }
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRing, refused_value__is_untouched) {
  SpscRing<std::unique_ptr<int>> ring(1);
  ASSERT_TRUE(ring.try_push(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(ring.try_push(std::move(second)));
  ASSERT_NE(second, nullptr);  // NOLINT(bugprone-use-after-move): that it was not moved from is the point
  EXPECT_EQ(**ring.peek(), 1);
}

// Two words a value, written apart: a value seen before it was whole would not match itself.
struct Pair {
  std::uint64_t number = 0;
  std::uint64_t complement = 0;
};

void pass_through(std::size_t capacity, std::uint64_t count) {
  SpscRing<Pair> ring(capacity);
  std::thread producer([&] {
    for (std::uint64_t i = 0; i < count;) {
      if (ring.try_push(Pair{i, ~i})) {
        ++i;
      } else {
        std::this_thread::yield();
      }
    }
  });
  std::uint64_t wrong_count = 0;
  for (std::uint64_t i = 0; i < count;) {
    const Pair* const pair = ring.peek();
    if (pair == nullptr) {
      std::this_thread::yield();
      continue;
    }
    if (pair->number != i || pair->complement != ~i) ++wrong_count;
    ring.pop();
    ++i;
  }
  producer.join();
  EXPECT_EQ(wrong_count, 0U);
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRing, two_threads__in_order_and_whole) { pass_through(64, 1'000'000); }

TEST(SpscRing, two_threads__one_slot) { pass_through(1, 20'000); }

}  // namespace
}  // namespace pagewire::fault::testing
