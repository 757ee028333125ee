// The shared table, here between threads: nothing lost, nothing twice, and full when it is full.
#include "tools/word_table.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace pagewire::tools {
namespace {

struct Slots {
  explicit Slots(std::size_t count) : memory(new WordSlot[count]()), span(memory.get(), count) {}
  std::unique_ptr<WordSlot[]> memory;
  std::span<WordSlot> span;
};

std::map<std::string, std::uint64_t> content(const WordTable& table) {
  std::map<std::string, std::uint64_t> words;
  EXPECT_TRUE(table.for_each([&](std::string_view word, std::uint64_t count) {
    EXPECT_TRUE(words.emplace(word, count).second) << word << " is there twice";
  }));
  return words;
}

TEST(WordTable, adds_and_finds) {
  const Slots slots(8);
  WordTable table(slots.span);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(table.add("a", hash_of("a"), 2));
  EXPECT_TRUE(table.add("it's", hash_of("it's"), 1));
  EXPECT_EQ(content(table), (std::map<std::string, std::uint64_t>{{"a", 6}, {"it's", 1}}));
}

TEST(WordTable, same_hash_is_not_the_same_word) {
  const Slots slots(8);
  WordTable table(slots.span);
  EXPECT_TRUE(table.add("a", ~std::uint64_t{0}, 1));
  EXPECT_TRUE(table.add("b", ~std::uint64_t{0}, 2));  // and both start in the last slot
  EXPECT_TRUE(table.add("a", ~std::uint64_t{0}, 4));
  EXPECT_EQ(content(table), (std::map<std::string, std::uint64_t>{{"a", 5}, {"b", 2}}));
}

TEST(WordTable, full) {
  const Slots slots(4);
  WordTable table(slots.span);
  for (const char* word : {"a", "b", "c", "d"}) EXPECT_TRUE(table.add(word, hash_of(word), 1));
  EXPECT_FALSE(table.add("e", hash_of("e"), 1));
  EXPECT_TRUE(table.add("c", hash_of("c"), 1));
}

TEST(WordTable, a_claim_that_was_never_finished_shows) {
  const Slots slots(4);
  slots.span[1].tag = 0x10 | kSlotClaimed;
  EXPECT_FALSE(WordTable(slots.span).for_each([](std::string_view, std::uint64_t) {}));
}

TEST(WordTable, capacity_for) {
  EXPECT_EQ(WordTable::capacity_for(0), 1024U);
  EXPECT_EQ(WordTable::capacity_for(513), 2048U);
  EXPECT_EQ(WordTable::capacity_for(31'171), 65'536U);
}

TEST(WordTable, threads_at_once) {
  constexpr int kThreads = 4;
  constexpr int kWords = 500;
  constexpr int kRounds = 200;
  const Slots slots(1024);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&slots] {
      WordTable table(slots.span);
      for (int round = 0; round < kRounds; ++round) {
        for (int n = 0; n < kWords; ++n) {
          const std::string word = "word" + std::to_string(n);
          ASSERT_TRUE(table.add(word, hash_of(word), 1));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto words = content(WordTable(slots.span));
  EXPECT_EQ(words.size(), static_cast<std::size_t>(kWords));
  for (const auto& [word, count] : words) EXPECT_EQ(count, std::uint64_t{kThreads} * kRounds) << word;
}

}  // namespace
}  // namespace pagewire::tools
