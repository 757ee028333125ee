// How often each outcome of one case was seen. Trivially copyable and of fixed size: node 0 fills it in
// shared memory and the program that started the nodes reads it there. One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "test/litmus/outcome.h"

namespace pagewire::litmus {

// One line, and where it was seen first.
struct Line {
  Outcome outcome;
  std::uint64_t count = 0;
  std::uint64_t first_batch = 0;
  std::uint64_t first_instance = 0;
};

class Histogram {
 public:
  static constexpr std::size_t kLinesMax = 64;  // more than any shape has outcomes without garbage

  void add(const Outcome& outcome, std::uint64_t batch, std::uint64_t instance) {
    ++total_;
    for (std::size_t i = 0; i < line_count_; ++i) {
      if (lines_[i].outcome == outcome) {
        ++lines_[i].count;
        return;
      }
    }
    if (line_count_ == kLinesMax) {
      ++overflow_;
      return;
    }
    lines_[line_count_++] = Line{outcome, 1, batch, instance};
  }

  std::span<const Line> lines() const { return {lines_.data(), line_count_}; }  // in the order of first sight
  std::uint64_t count(const Outcome& outcome) const {
    for (const Line& line : lines()) {
      if (line.outcome == outcome) return line.count;
    }
    return 0;
  }
  std::uint64_t total() const { return total_; }
  std::uint64_t overflow() const { return overflow_; }  // outcomes that found no line: garbage, for sure

 private:
  std::array<Line, kLinesMax> lines_{};
  std::size_t line_count_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t overflow_ = 0;
};

// What the nodes found out in one case.
struct CaseResult {
  Histogram histogram;
  std::uint64_t batch_count = 0;
  std::uint64_t nanoseconds = 0;
  std::uint64_t fault_count = 0;  // of all nodes, while the instances ran: resets and barriers aside
};

}  // namespace pagewire::litmus
