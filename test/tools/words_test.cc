// What is a word, which share it belongs to, and how numbers are written. Blocks in the order of words.cc.
#include "tools/words.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "tools/numbers.h"

namespace pagewire::tools {
namespace {

std::vector<std::string> words_in(std::string_view text, std::size_t begin, std::size_t end) {
  std::vector<std::string> words;
  WordReader reader(text, begin, end);
  for (std::string_view word = reader.next(); !word.empty(); word = reader.next()) words.emplace_back(word);
  return words;
}
std::vector<std::string> words_in(std::string_view text) { return words_in(text, 0, text.size()); }
using Words = std::vector<std::string>;

TEST(share_of, covers_without_overlap) {
  for (const std::size_t bytes : {0U, 1U, 7U, 4096U, 100'003U}) {
    for (std::uint32_t count = 1; count <= 8; ++count) {
      std::size_t at = 0;
      for (std::uint32_t i = 0; i < count; ++i) {
        const auto [begin, end] = share_of(bytes, i, count);
        EXPECT_EQ(begin, at);
        EXPECT_LE(begin, end);
        at = end;
      }
      EXPECT_EQ(at, bytes);
    }
  }
}

TEST(WordReader, letters_and_apostrophes_in_lower_case) {
  EXPECT_EQ(words_in("Don't PANIC, it's 42nd!"), (Words{"don't", "panic", "it's", "nd"}));
  EXPECT_EQ(words_in("'quoted' rock'n'roll' ''' '"), (Words{"quoted", "rock'n'roll"}));
  EXPECT_EQ(words_in("na\xc3\xafve"), (Words{"na", "ve"}));
  EXPECT_EQ(words_in(""), Words{});
  EXPECT_EQ(words_in("...\n"), Words{});
}

TEST(WordReader, long_words_are_cut) {
  const std::string longest(kWordBytesMax, 'a');
  EXPECT_EQ(words_in(longest + "b c"), (Words{longest, "c"}));
  EXPECT_EQ(words_in(std::string(kWordBytesMax - 1, 'a') + "'bc"),
            (Words{std::string(kWordBytesMax - 1, 'a')}));
}

TEST(WordReader, a_word_belongs_to_the_share_in_which_its_run_starts) {
  const std::string text = "one two";
  EXPECT_EQ(words_in(text, 0, 5), (Words{"one", "two"}));
  EXPECT_EQ(words_in(text, 5, 7), Words{});
  EXPECT_EQ(words_in(text, 0, 4), (Words{"one"}));
  EXPECT_EQ(words_in(text, 4, 7), (Words{"two"}));
  EXPECT_EQ(words_in("'one", 0, 1), (Words{"one"}));
  EXPECT_EQ(words_in("'one", 1, 4), Words{});
}

TEST(WordReader, shares_together_are_the_whole__random_texts) {
  constexpr std::uint32_t kSeed = 7;
  std::mt19937 random(kSeed);
  constexpr std::string_view kAlphabet = "aB' \n";
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 60, ' ');
    for (char& c : text) c = kAlphabet[random() % kAlphabet.size()];
    const std::uint32_t count = 1 + random() % 8;
    Words together;
    for (std::uint32_t i = 0; i < count; ++i) {
      const auto [begin, end] = share_of(text.size(), i, count);
      const Words share = words_in(text, begin, end);
      together.insert(together.end(), share.begin(), share.end());
    }
    EXPECT_EQ(together, words_in(text)) << "text: [" << text << "] in " << count << ", seed " << kSeed;
  }
}

TEST(numbers, as_people_read_them) {
  EXPECT_EQ(grouped(0), "0");
  EXPECT_EQ(grouped(999), "999");
  EXPECT_EQ(grouped(1'000), "1,000");
  EXPECT_EQ(grouped(1'234'567), "1,234,567");
  EXPECT_EQ(time_text(999), "999 ns");
  EXPECT_EQ(time_text(12'345), "12.3 µs");
  EXPECT_EQ(time_text(2'000'000), "2.0 ms");
  EXPECT_EQ(time_text(3'210'000'000), "3.21 s");
  EXPECT_EQ(bytes_text(12), "12 bytes");
  EXPECT_EQ(bytes_text(2'576'674), "2.6 MB");
}

}  // namespace
}  // namespace pagewire::tools
