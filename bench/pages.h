// What the bench writes into the pages of a region, and what it wants to find there. Any thread.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "bench/samples.h"
#include "pagewire/error.h"

namespace pagewire::bench {

inline constexpr std::size_t kPageBytes = 4096;
inline constexpr std::size_t kWordsPerPage = kPageBytes / sizeof(std::uint64_t);

// Plain loads and stores: relaxed atomics of a machine word are nothing else, and the compiler leaves them.
class Pages {
 public:
  explicit Pages(std::span<std::uint64_t> words) : words_(words) {}

  std::size_t count() const { return words_.size() / kWordsPerPage; }
  std::span<const std::uint64_t> page(std::size_t page) const {
    return words_.subspan(page * kWordsPerPage, kWordsPerPage);
  }
  std::uint64_t load(std::size_t page, std::size_t word = 0) const {
    return at(page, word).load(std::memory_order_relaxed);
  }
  void store(std::size_t page, std::uint64_t value, std::size_t word = 0) const {
    at(page, word).store(value, std::memory_order_relaxed);
  }

  // A page is marked by its number above `base`, in its first word and its last.
  void mark(std::size_t page, std::uint64_t base) const {
    store(page, base + page);
    store(page, base + page, kWordsPerPage - 1);
  }
  void expect(std::size_t page, std::uint64_t base, std::size_t word) const {
    const std::uint64_t seen = load(page, word);
    if (seen == base + page) return;
    throw Error(fmt::format("word {} of page {} is wrong", word, page),
                fmt::format("{:#x} where {:#x} was written", seen, base + page),
                "This is a defect of Pagewire: report it");
  }
  void expect_mark(std::size_t page, std::uint64_t base) const {
    expect(page, base, 0);
    expect(page, base, kWordsPerPage - 1);
  }

 private:
  std::atomic_ref<std::uint64_t> at(std::size_t page, std::size_t word) const {
    return std::atomic_ref<std::uint64_t>(words_[page * kWordsPerPage + word]);
  }
  std::span<std::uint64_t> words_;
};

}  // namespace pagewire::bench
