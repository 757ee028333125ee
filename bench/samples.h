// Times that were taken one by one, kept as they are: quantiles are exact. One thread.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <span>
#include <vector>

namespace pagewire::bench {

// CLOCK_MONOTONIC; a call costs some 20-40 ns, which every sample contains once.
inline std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

struct Quantiles {
  std::uint64_t count = 0;
  std::uint64_t p50_ns = 0;
  std::uint64_t p90_ns = 0;
  std::uint64_t p99_ns = 0;
  std::uint64_t max_ns = 0;
};

class Samples {
 public:
  explicit Samples(std::size_t expected_count = 0) { ns_.reserve(expected_count); }
  // Does not allocate as long as there are no more than were expected.
  void add(std::uint64_t ns) { ns_.push_back(ns); }
  void add(std::span<const std::uint64_t> ns) { ns_.insert(ns_.end(), ns.begin(), ns.end()); }
  const std::vector<std::uint64_t>& values() const { return ns_; }

  // Nearest rank; all zero without samples.
  Quantiles quantiles() const {
    if (ns_.empty()) return {};
    std::vector<std::uint64_t> sorted = ns_;
    std::sort(sorted.begin(), sorted.end());
    const auto at = [&](double share) {
      const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
      return sorted[std::max<std::size_t>(rank, 1) - 1];
    };
    return {.count = sorted.size(),
            .p50_ns = at(0.5),
            .p90_ns = at(0.9),
            .p99_ns = at(0.99),
            .max_ns = sorted.back()};
  }

 private:
  std::vector<std::uint64_t> ns_;
};

}  // namespace pagewire::bench
