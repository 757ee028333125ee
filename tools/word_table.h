// A hash table in shared memory that all nodes add to at once, with std::atomic on ordinary addresses: open
// addressing, a slot is claimed by compare-and-swap and counted by fetch_add. Any thread of any node.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "tools/words.h"

namespace pagewire::tools {

// All zero is an empty slot. Once `tag` says ready, `length` and `text` do not change any more.
struct WordSlot {
  std::atomic<std::uint64_t> tag;  // 0: empty; else the word's hash with its state in the two lowest bits
  std::atomic<std::uint64_t> count;
  std::uint8_t length;
  char text[kWordBytesMax];
};
static_assert(sizeof(WordSlot) == 64 && std::atomic<std::uint64_t>::is_always_lock_free);

// FNV-1a with the bits mixed once more, so that the top ones may choose the slot.
std::uint64_t hash_of(std::string_view word);

class WordTable {
 public:
  // The length of `slots` is a power of two.
  explicit WordTable(std::span<WordSlot> slots);

  // How many slots for so many different words.
  static std::size_t capacity_for(std::size_t word_count);

  // False if the table is full.
  bool add(std::string_view word, std::uint64_t hash, std::uint64_t count);

  // Calls f(word, count) for each word, in the order of the slots; only while nobody adds. False if a slot
  // was claimed and never made ready.
  template <typename F>
  bool for_each(F&& f) const;

 private:
  std::optional<std::size_t> find_or_claim(std::string_view word, std::uint64_t hash);

  std::span<WordSlot> slots_;
  int shift_;
};

inline constexpr std::uint64_t kSlotStateMask = 3;
inline constexpr std::uint64_t kSlotClaimed = 1;
inline constexpr std::uint64_t kSlotReady = 2;

template <typename F>
bool WordTable::for_each(F&& f) const {
  bool whole = true;
  for (const WordSlot& slot : slots_) {
    const std::uint64_t tag = slot.tag.load();
    if (tag == 0) continue;
    if ((tag & kSlotStateMask) != kSlotReady || slot.length > kWordBytesMax) {
      whole = false;
      continue;
    }
    f(std::string_view(slot.text, slot.length), slot.count.load());
  }
  return whole;
}

}  // namespace pagewire::tools
