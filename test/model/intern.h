// The checker's tables: values that get small numbers in the order in which they first appear, kept in chunks
// so that nothing is moved when they grow. Single-threaded.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace pagewire::model {

inline std::uint64_t mixed(std::uint64_t value) {
  value = (value ^ value >> 32) * 0xd6e8feb86659fd93;
  value = (value ^ value >> 32) * 0xd6e8feb86659fd93;
  return value ^ value >> 32;
}

// A vector that only grows at its end and never moves what it holds.
template <typename T>
class Chunked {
 public:
  static constexpr std::size_t kChunk = std::bit_floor((std::size_t{1} << 18) / sizeof(T));
  void push_back(const T& value) {
    if (size_ % kChunk == 0) chunks_.push_back(std::make_unique_for_overwrite<T[]>(kChunk));
    (*this)[size_++] = value;
  }
  T& operator[](std::size_t index) { return chunks_[index / kChunk][index % kChunk]; }
  const T& operator[](std::size_t index) const { return chunks_[index / kChunk][index % kChunk]; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return chunks_.size() * kChunk * sizeof(T); }

 private:
  std::vector<std::unique_ptr<T[]>> chunks_;
  std::size_t size_ = 0;
};

// A set of byte strings, each with its number.
class InternedBytes {
 public:
  InternedBytes() : table_(std::size_t{1} << 12) {}

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
  // Starts to bring the place of a hash into the cache.
  void prefetch(std::uint64_t hash) const { __builtin_prefetch(&table_[hash & (table_.size() - 1)]); }

  // The same for the string that is probably there.
  void prefetch_string(std::uint64_t hash) const {
    const Slot& slot = table_[hash & (table_.size() - 1)];
    if (slot.number == kEmpty) return;
    const Place& place = places_[slot.number];
    __builtin_prefetch(blocks_[place.block].get() + place.offset);
  }

  // The string's number, and whether it is new. The bytes are compared, not only their hash.
  std::pair<std::uint32_t, bool> put(std::string_view bytes) { return put(bytes, hash_of(bytes)); }
  std::pair<std::uint32_t, bool> put(std::string_view bytes, std::uint64_t hash) {
    if (size() * 5 >= table_.size() * 3) grow();
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    std::size_t at = hash & (table_.size() - 1);
    while (table_[at].number != kEmpty) {
      if (table_[at].tag == tag && get(table_[at].number) == bytes) return {table_[at].number, false};
      at = (at + 1) & (table_.size() - 1);
    }
    const auto number = static_cast<std::uint32_t>(size());
    table_[at] = Slot{number, tag};
    store(bytes);
    return {number, true};
  }
  std::string_view get(std::uint32_t number) const {
    const Place& place = places_[number];
    const char* at = blocks_[place.block].get() + place.offset;
    std::uint16_t length = 0;
    std::memcpy(&length, at, sizeof length);
    return {at + sizeof length, length};
  }
  std::size_t size() const { return places_.size(); }
  std::size_t bytes() const {
    return blocks_.size() * kBlock + places_.bytes() + table_.size() * sizeof(Slot);
  }

 private:
  static constexpr std::uint32_t kEmpty = 0xffffffff;
  static constexpr std::size_t kBlock = std::size_t{1} << 22;
  struct Slot {
    std::uint32_t number = kEmpty;
    std::uint32_t tag = 0;
  };
  struct Place {
    std::uint32_t block = 0;
    std::uint32_t offset = 0;  // there: two bytes of length, then the string
  };

  void store(std::string_view bytes) {
    const auto length = static_cast<std::uint16_t>(bytes.size());
    if (blocks_.empty() || used_ + sizeof length + length > kBlock) {
      blocks_.push_back(std::make_unique_for_overwrite<char[]>(kBlock));
      used_ = 0;
    }
    char* at = blocks_.back().get() + used_;
    std::memcpy(at, &length, sizeof length);
    std::memcpy(at + sizeof length, bytes.data(), length);
    places_.push_back(
        Place{static_cast<std::uint32_t>(blocks_.size() - 1), static_cast<std::uint32_t>(used_)});
    used_ += sizeof length + length;
  }
  void grow() {
    std::vector<Slot> larger(table_.size() * 2);
    for (std::uint32_t number = 0; number < size(); ++number) {
      const std::uint64_t hash = hash_of(get(number));
      std::size_t at = hash & (larger.size() - 1);
      while (larger[at].number != kEmpty) at = (at + 1) & (larger.size() - 1);
      larger[at] = Slot{number, static_cast<std::uint32_t>(hash >> 32)};
    }
    table_ = std::move(larger);
  }

  std::vector<Slot> table_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::size_t used_ = 0;
  Chunked<Place> places_;
};

// From a 64-bit key to a 32-bit number.
class NumberTable {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;
  NumberTable() : slots_(std::size_t{1} << 12) {}

  std::uint32_t find(std::uint64_t key) const {
    for (std::size_t at = mixed(key) & (slots_.size() - 1); slots_[at].number != kNone;
         at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return slots_[at].number;
    }
    return kNone;
  }
  // The key must be new.
  void put(std::uint64_t key, std::uint32_t number) {
    if (++size_ * 2 > slots_.size()) {
      std::vector<Slot> smaller(slots_.size() * 2);
      smaller.swap(slots_);
      for (const Slot& slot : smaller) {
        if (slot.number != kNone) place(slot);
      }
    }
    place(Slot{key, number});
  }
  std::size_t bytes() const { return slots_.size() * sizeof(Slot); }

 private:
  struct Slot {
    std::uint64_t key = 0;
    std::uint32_t number = kNone;
  };
  void place(const Slot& slot) {
    std::size_t at = mixed(slot.key) & (slots_.size() - 1);
    while (slots_[at].number != kNone) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = slot;
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace pagewire::model
