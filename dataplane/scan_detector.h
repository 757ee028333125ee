// Sees from the faults of a region that it is scanned, forwards or backwards, page by page or in strides, and
// says which pages to ask for ahead. A few scans at once; a plain value without clock or I/O. One loop owns
// it.
#pragma once

#include <array>
#include <cstdint>

namespace pagewire::dataplane {

// Pages first, first + stride, …; none if count is 0.
struct Ahead {
  std::uint32_t first = 0;
  std::int32_t stride = 1;
  std::uint32_t count = 0;
};

class ScanDetector {
 public:
  static constexpr std::uint32_t kWindowMin = 8;
  static constexpr std::uint32_t kWindowMax = 128;    // pages asked for and not yet reached, of one scan
  static constexpr std::int32_t kStrideMax = 64;      // pages
  static constexpr std::uint32_t kConfirmations = 2;  // equal steps before anything is asked for
  static constexpr std::uint32_t kConfirmationsWhenWrong = 16;

  explicit ScanDetector(std::uint32_t page_count) : page_count_(page_count) {}

  // A thread has faulted on the page, whether it was absent or had come ahead of need. What to ask for now.
  Ahead on_fault(std::uint32_t page);
  // What became of pages that were asked for because of on_fault(): used, or taken away unused.
  void useful(std::uint32_t count);
  void useless(std::uint32_t count);

 private:
  struct Scan {
    std::uint32_t last = 0;       // the page of the last fault
    std::int32_t stride = 0;      // 0: one fault so far
    std::uint32_t confirmed = 0;  // equal steps in a row
    std::uint32_t window = 0;     // 0: nothing was asked for yet
    std::int64_t next = 0;        // the first page that was not asked for
    std::uint64_t used = 0;       // by on_fault(), for the choice of whom to forget; 0: free
  };

  bool is_within(const Scan& scan, std::uint32_t page) const;
  Ahead go_on(Scan& scan, std::uint32_t page);
  Ahead ask(Scan& scan, std::uint32_t count);

  std::uint32_t page_count_;
  std::array<Scan, 4> scans_{};
  std::uint64_t faults_ = 0;
  std::uint32_t wrong_ = 0;  // grows with useless pages, falls with useful ones
};

}  // namespace pagewire::dataplane
