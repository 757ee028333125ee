// Values that get small numbers, in the order in which they first appear; and strings of bytes kept in one
// block. Single-threaded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace pagewire::model {

// A set of byte strings, each with its number.
class InternedBytes {
 public:
  InternedBytes() : table_(std::size_t{1} << 16, kEmpty) { offsets_.push_back(0); }

  // The string's number, and whether it is new.
  std::pair<std::uint32_t, bool> put(std::string_view bytes) {
    if (size() * 2 >= table_.size()) grow();
    const std::uint64_t hash = hash_of(bytes);
    std::size_t at = hash & (table_.size() - 1);
    while (table_[at] != kEmpty) {
      if (get(table_[at]) == bytes) return {table_[at], false};
      at = (at + 1) & (table_.size() - 1);
    }
    const auto number = static_cast<std::uint32_t>(size());
    table_[at] = number;
    block_.insert(block_.end(), bytes.begin(), bytes.end());
    offsets_.push_back(block_.size());
    return {number, true};
  }
  // Valid until the next put.
  std::string_view get(std::uint32_t number) const {
    return {block_.data() + offsets_[number], offsets_[number + 1] - offsets_[number]};
  }
  std::size_t size() const { return offsets_.size() - 1; }

 private:
  static constexpr std::uint32_t kEmpty = 0xffffffff;

  static std::uint64_t hash_of(std::string_view bytes) {
    std::uint64_t hash = 0x9e3779b97f4a7c15 ^ bytes.size();
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      hash = (hash ^ word) * 0xff51afd7ed558ccd;
      hash ^= hash >> 32;
    }
    std::uint64_t rest = 0;
    std::memcpy(&rest, bytes.data() + i, bytes.size() - i);
    hash = (hash ^ rest) * 0xc4ceb9fe1a85ec53;
    return hash ^ hash >> 29;
  }
  void grow() {
    std::vector<std::uint32_t> larger(table_.size() * 2, kEmpty);
    for (const std::uint32_t number : table_) {
      if (number == kEmpty) continue;
      std::size_t at = hash_of(get(number)) & (larger.size() - 1);
      while (larger[at] != kEmpty) at = (at + 1) & (larger.size() - 1);
      larger[at] = number;
    }
    table_ = std::move(larger);
  }

  std::vector<std::uint32_t> table_;
  std::vector<char> block_;
  std::vector<std::size_t> offsets_;
};

}  // namespace pagewire::model
