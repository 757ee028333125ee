// The page table of one region: what this node knows of each page, in an oneTBB container. The page's loop
// alone writes an entry; anybody reads its published word, lock-free, at any time.
//
// The container is concurrent_vector: pages are numbered densely, so a look-up is two loads, entries never
// move, and a page costs its entry and nothing more. `bench/page_table` measures it beside the hash maps.
#pragma once

#include <tbb/concurrent_vector.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "protocol/page.h"

namespace pagewire::dataplane {

// What a loop publishes of a page after each transition. One word, so that a reader sees one moment.
struct PageSummary {
  protocol::Permission permission = protocol::Permission::kInvalid;
  bool owner = false;
  bool under_way = false;        // a round is open
  bool unmapped = false;         // it is here, but its first touch will fault: see PageSlot
  bool write_protected = false;  // ... or its first store, though the permission is Write
  protocol::NodeId hint{};
  std::uint16_t grants = 0;   // how often access was granted, wraps: tells a waiting thread that its turn was
  std::uint32_t version = 0;  // the low 32 bits
};

enum class Asked : std::uint8_t { kNo, kByService, kByScan };

// Whether a page was given away with the one store of its turn, and has not come back since.
enum class HandedOn : std::uint8_t {
  kNo,
  kYes,
  kQuietly,  // and it may be asked for without ringing
};

class PageSlot {
 public:
  // The page's loop only. The application view may let through less than the permission, never more.
  bool unmapped = false;         // mapped only when touched
  bool protected_early = false;  // write-protected, though the permission is Write: for the rest of a burst
                                 // or of a turn, as the page will be taken from here
  Asked asked = Asked::kNo;      // ahead of need, and not used yet
  bool in_flight = false;        // ... and not here yet
  std::uint8_t holds = 0;        // of the service, under way
  // Migratory pages, see Loop::store_and_hand_on().
  std::uint8_t turns_kept = 0;  // so many turns are not ended early,
  std::uint8_t keep_next = 1;   // and so many the next time that one was, in vain; 0: the last one was right
  HandedOn handed_on = HandedOn::kNo;

  explicit PageSlot(const protocol::PageEntry& initial) : entry_(initial) { publish(); }
  PageSlot(const PageSlot& other) : entry_(other.entry_) { publish(); }  // while the table is filled
  PageSlot& operator=(const PageSlot&) = delete;

  protocol::PageEntry& entry() { return entry_; }  // the page's loop only

  // Access was granted since the last publish(). The page's loop only.
  void count_grant() { ++grants_; }
  void publish() {
    const std::uint64_t word =
        static_cast<std::uint64_t>(entry_.permission) | (entry_.owner ? 4U : 0U) |
        (entry_.round != protocol::kNoRound ? 8U : 0U) | (unmapped ? 16U : 0U) |
        (protected_early ? 32U : 0U) | static_cast<std::uint64_t>(entry_.hint.value) << 8 |
        static_cast<std::uint64_t>(grants_) << 16 | (entry_.version.value & 0xffffffff) << 32;
    published_.store(word, std::memory_order_release);
  }
  PageSummary summary() const {
    const std::uint64_t word = published_.load(std::memory_order_acquire);
    return PageSummary{.permission = static_cast<protocol::Permission>(word & 3),
                       .owner = (word & 4) != 0,
                       .under_way = (word & 8) != 0,
                       .unmapped = (word & 16) != 0,
                       .write_protected = (word & 32) != 0,
                       .hint = protocol::NodeId{static_cast<std::uint8_t>(word >> 8)},
                       .grants = static_cast<std::uint16_t>(word >> 16),
                       .version = static_cast<std::uint32_t>(word >> 32)};
  }

 private:
  protocol::PageEntry entry_;
  std::uint16_t grants_ = 0;
  std::atomic<std::uint64_t> published_{0};
};
static_assert(sizeof(PageSlot) <= 128);

class PageTable {
 public:
  // Fills it with `initial(index)` for each page; one thread, before anybody else looks.
  template <typename Initial>
  PageTable(std::size_t page_count, Initial&& initial) {
    slots_.reserve(page_count);
    for (std::size_t i = 0; i < page_count; ++i) slots_.emplace_back(initial(i));
  }

  std::size_t size() const { return slots_.size(); }
  PageSlot& operator[](std::size_t page) { return slots_[page]; }
  const PageSlot& operator[](std::size_t page) const { return slots_[page]; }
  // Of real memory: the vector's last segment is larger, but nobody touches what is not filled.
  std::size_t memory_bytes() const { return slots_.size() * sizeof(PageSlot); }

 private:
  tbb::concurrent_vector<PageSlot> slots_;
};

}  // namespace pagewire::dataplane
