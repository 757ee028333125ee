// Latencies in buckets of at most 3 % width, after Gil Tene's HdrHistogram. One thread records (or several,
// by record_shared()), any thread reads; the sum over several is taken by adding snapshots. (Debian ships no
// C or C++ package of the original.)
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "dataplane/counter.h"

namespace pagewire::dataplane {

class HistogramSnapshot;

class Histogram {
 public:
  static constexpr unsigned kSubBits = 5;     // 32 buckets for each doubling
  static constexpr unsigned kDoublings = 36;  // up to 2^40 ns, 18 minutes
  static constexpr std::size_t kBuckets = (kDoublings + 1) << kSubBits;

  void record(std::uint64_t ns) {
    buckets_[bucket_of(ns)].add();
    if (ns > max_.get()) max_.add(ns - max_.get());
  }
  // Instead of record(), in a histogram that several threads write.
  void record_shared(std::uint64_t ns) {
    buckets_[bucket_of(ns)].add_shared();
    max_.raise_shared(ns);
  }

  static constexpr std::size_t bucket_of(std::uint64_t ns) {
    if (ns < (1U << kSubBits)) return ns;
    const unsigned doubling = static_cast<unsigned>(std::bit_width(ns)) - kSubBits;
    const std::size_t bucket =
        (std::size_t{doubling} << kSubBits) + ((ns >> (doubling - 1)) & ((1U << kSubBits) - 1));
    return std::min(bucket, kBuckets - 1);
  }
  // The largest value of a bucket.
  static constexpr std::uint64_t top_of(std::size_t bucket) {
    const std::size_t doubling = bucket >> kSubBits;
    const std::uint64_t sub = bucket & ((1U << kSubBits) - 1);
    if (doubling == 0) return sub;
    return (((std::uint64_t{1} << kSubBits) + sub + 1) << (doubling - 1)) - 1;
  }

 private:
  friend class HistogramSnapshot;
  std::array<Counter, kBuckets> buckets_;
  Counter max_;
};

// Counts at one moment; adds up over loops.
class HistogramSnapshot {
 public:
  void add(const Histogram& histogram) {
    for (std::size_t i = 0; i < Histogram::kBuckets; ++i) {
      const std::uint64_t count = histogram.buckets_[i].get();
      buckets_[i] += count;
      count_ += count;
    }
    max_ = std::max(max_, histogram.max_.get());
  }
  std::uint64_t count() const { return count_; }
  std::uint64_t max_ns() const { return max_; }
  // The value that `share` (0..1) of the records do not exceed, to the bucket's width; 0 without records.
  std::uint64_t quantile_ns(double share) const {
    if (count_ == 0) return 0;
    const auto wanted = std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(std::llround(share * static_cast<double>(count_))));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < Histogram::kBuckets; ++i) {
      seen += buckets_[i];
      if (seen >= wanted) return std::min(Histogram::top_of(i), max_);
    }
    return max_;
  }

 private:
  std::array<std::uint64_t, Histogram::kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace pagewire::dataplane
