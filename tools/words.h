// What the demo calls a word, and how a text is cut into shares. Pure functions; any thread.
//
// A word is a run of the letters A-Z and a-z and of apostrophes, made lower case, without the apostrophes at
// its ends, and cut after kWordBytesMax bytes. A run of apostrophes alone is none. Every other byte
// separates.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace pagewire::tools {

inline constexpr std::size_t kWordBytesMax = 47;

using WordCounts = std::unordered_map<std::string, std::uint64_t>;

// The bytes [first, second) of share `index` of `count`. They cover the text and do not overlap.
std::pair<std::size_t, std::size_t> share_of(std::size_t text_bytes, std::uint32_t index,
                                             std::uint32_t count);

// Walks over the words whose run starts in [begin, end) of the text; the last one may go on behind `end`. So
// each word of the text is in exactly one of several ranges that follow each other.
class WordReader {
 public:
  WordReader(std::string_view text, std::size_t begin, std::size_t end);

  // The next word, or an empty view at the end; it is valid until the next call.
  std::string_view next();
  // How far it has read.
  std::size_t position() const { return position_; }

 private:
  std::string_view text_;
  std::size_t position_;
  std::size_t end_;
  std::array<char, kWordBytesMax> word_{};
};

}  // namespace pagewire::tools
