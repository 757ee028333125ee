#include "tools/words.h"

namespace pagewire::tools {

namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_part_of_run(char c) { return is_letter(c) || c == '\''; }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

std::pair<std::size_t, std::size_t> share_of(std::size_t text_bytes, std::uint32_t index,
                                             std::uint32_t count) {
  const std::size_t each = text_bytes / count;
  const std::size_t more = text_bytes % count;  // the first `more` shares have one byte more
  const auto start_of = [&](std::size_t i) { return i * each + (i < more ? i : more); };
  return {start_of(index), start_of(std::size_t{index} + 1)};
}

WordReader::WordReader(std::string_view text, std::size_t begin, std::size_t end)
    : text_(text), position_(begin), end_(end) {
  if (begin == 0 || begin >= text.size() || !is_part_of_run(text[begin - 1])) return;
  while (position_ < text_.size() && is_part_of_run(text_[position_]))
    ++position_;  // the share before has this run
}

std::string_view WordReader::next() {
  for (;;) {
    while (position_ < end_ && !is_part_of_run(text_[position_])) ++position_;
    if (position_ >= end_) return {};
    std::size_t kept = 0;
    std::size_t length = 0;  // without the apostrophes at the end
    for (; position_ < text_.size() && is_part_of_run(text_[position_]); ++position_) {
      const char c = text_[position_];
      if (kept == kWordBytesMax || (kept == 0 && c == '\'')) continue;
      word_[kept++] = lower(c);
      if (c != '\'') length = kept;
    }
    if (length > 0) return {word_.data(), length};
  }
}

}  // namespace pagewire::tools
