#include "tools/word_table.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace pagewire::tools {

std::uint64_t hash_of(std::string_view word) {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;
  for (const char c : word) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  hash ^= hash >> 32;
  hash *= 0x9e37'79b9'7f4a'7c15;
  return hash ^ hash >> 29;
}

WordTable::WordTable(std::span<WordSlot> slots)
    : slots_(slots), shift_(64 - std::countr_zero(slots.size())) {}

std::size_t WordTable::capacity_for(std::size_t word_count) {
  return std::bit_ceil(std::max<std::size_t>(2 * word_count, 1024));
}

bool WordTable::add(std::string_view word, std::uint64_t hash, std::uint64_t count) {
  const std::optional<std::size_t> slot = find_or_claim(word, hash);
  if (slot) slots_[*slot].count.fetch_add(count);
  return slot.has_value();
}

std::optional<std::size_t> WordTable::find_or_claim(std::string_view word, std::uint64_t hash) {
  const std::uint64_t claimed = (hash & ~kSlotStateMask) | kSlotClaimed;
  const std::uint64_t ready = (hash & ~kSlotStateMask) | kSlotReady;
  const std::size_t start = static_cast<std::size_t>(hash >> shift_);
  for (std::size_t step = 0; step < slots_.size(); ++step) {
    const std::size_t index = (start + step) & (slots_.size() - 1);
    WordSlot& slot = slots_[index];
    std::uint64_t tag = slot.tag.load();
    if (tag == 0 && slot.tag.compare_exchange_strong(tag, claimed)) {
      slot.length = static_cast<std::uint8_t>(word.size());
      std::memcpy(slot.text, word.data(), word.size());
      slot.tag.store(ready);
      return index;
    }
    while (tag ==
           claimed) {  // another node writes this word, or one of the same hash: it is done in a moment
      ::sched_yield();
      tag = slot.tag.load();
    }
    if (tag == ready && std::string_view(slot.text, slot.length) == word) return index;
  }
  return std::nullopt;
}

}  // namespace pagewire::tools
