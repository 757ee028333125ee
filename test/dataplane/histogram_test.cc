// Buckets of latencies: every value has one, none is wider than promised, and quantiles are right to its
// width.
#include "dataplane/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace pagewire::dataplane {
namespace {

constexpr std::uint64_t kHighest = (std::uint64_t{1} << 41) - 1;  // with a bucket of its own

HistogramSnapshot snapshot_of(const Histogram& histogram) {
  HistogramSnapshot snapshot;
  snapshot.add(histogram);
  return snapshot;
}

TEST(Histogram, bucket_of__values_up_to_63_have_one_each) {
  for (std::uint64_t ns = 0; ns < 64; ++ns) {
    EXPECT_EQ(Histogram::bucket_of(ns), ns);
    EXPECT_EQ(Histogram::top_of(ns), ns);
  }
}

TEST(Histogram, bucket_of__buckets_meet_without_gap_or_overlap) {
  for (std::size_t bucket = 0; bucket + 1 < Histogram::kBuckets; ++bucket) {
    const std::uint64_t top = Histogram::top_of(bucket);
    ASSERT_EQ(Histogram::bucket_of(top), bucket);
    ASSERT_EQ(Histogram::bucket_of(top + 1), bucket + 1);
  }
  EXPECT_EQ(Histogram::top_of(Histogram::kBuckets - 1), kHighest);
}

TEST(Histogram, top_of__is_within_one_part_in_32_of_every_value) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t ns = random() >> (23 + random() % 41);
    const std::uint64_t top = Histogram::top_of(Histogram::bucket_of(ns));
    ASSERT_GE(top, ns);
    ASSERT_LE(top - ns, ns / 32) << ns;
  }
}

TEST(Histogram, record__beyond_the_last_bucket_is_counted_in_it) {
  const auto histogram = std::make_unique<Histogram>();
  constexpr std::uint64_t kLongest = std::numeric_limits<std::uint64_t>::max();
  histogram->record(kHighest + 1);
  histogram->record(kLongest);
  EXPECT_EQ(Histogram::bucket_of(kLongest), Histogram::kBuckets - 1);
  EXPECT_EQ(snapshot_of(*histogram).count(), 2U);
  EXPECT_EQ(snapshot_of(*histogram).max_ns(), kLongest);
}

TEST(HistogramSnapshot, quantile_ns__without_records) {
  const HistogramSnapshot empty;
  EXPECT_EQ(empty.count(), 0U);
  EXPECT_EQ(empty.max_ns(), 0U);
  EXPECT_EQ(empty.quantile_ns(0.5), 0U);
}

TEST(HistogramSnapshot, quantile_ns__of_one_record_is_that_record) {
  const auto histogram = std::make_unique<Histogram>();
  histogram->record(12'345);
  for (const double share : {0.0, 0.5, 0.99, 1.0})
    EXPECT_EQ(snapshot_of(*histogram).quantile_ns(share), 12'345U);
}

TEST(HistogramSnapshot, quantile_ns__against_sorted_values) {
  const auto histogram = std::make_unique<Histogram>();
  std::mt19937_64 random(2);
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 20'000; ++i) {
    values.push_back(1 + random() % 1'000 * (random() % 1'000) * (random() % 50));
    histogram->record(values.back());
  }
  std::ranges::sort(values);
  const HistogramSnapshot snapshot = snapshot_of(*histogram);
  EXPECT_EQ(snapshot.count(), values.size());
  EXPECT_EQ(snapshot.max_ns(), values.back());
  EXPECT_EQ(snapshot.quantile_ns(1), values.back());
  for (const double share : {0.01, 0.25, 0.5, 0.9, 0.99, 0.999}) {
    const auto rank = static_cast<std::size_t>(std::round(share * static_cast<double>(values.size()))) - 1;
    const std::uint64_t exact = values[rank];
    EXPECT_GE(snapshot.quantile_ns(share), exact) << share;
    EXPECT_LE(snapshot.quantile_ns(share), exact + exact / 32) << share;
  }
}

TEST(HistogramSnapshot, add__is_the_sum_over_loops) {
  const auto slow = std::make_unique<Histogram>();
  const auto fast = std::make_unique<Histogram>();
  for (int i = 0; i < 90; ++i) fast->record(10);
  for (int i = 0; i < 10; ++i) slow->record(1'000'000);
  HistogramSnapshot both = snapshot_of(*fast);
  both.add(*slow);
  EXPECT_EQ(both.count(), 100U);
  EXPECT_EQ(both.quantile_ns(0.9), 10U);
  EXPECT_GE(both.quantile_ns(0.91), 1'000'000U - 1'000'000U / 32);
  EXPECT_EQ(both.max_ns(), 1'000'000U);
}

TEST(HistogramSnapshot, add__while_another_thread_records) {
  const auto histogram = std::make_unique<Histogram>();
  constexpr std::uint64_t kRecords = 300'000;
  std::atomic<bool> done{false};
  std::thread recorder([&] {
    for (std::uint64_t i = 0; i < kRecords; ++i) histogram->record(i % 4'096);
    done.store(true);
  });
  std::uint64_t before = 0;
  while (!done.load()) {
    const std::uint64_t seen = snapshot_of(*histogram).count();
    ASSERT_GE(seen, before);
    ASSERT_LE(seen, kRecords);
    before = seen;
  }
  recorder.join();
  EXPECT_EQ(snapshot_of(*histogram).count(), kRecords);
  EXPECT_EQ(snapshot_of(*histogram).max_ns(), 4'095U);
}

}  // namespace
}  // namespace pagewire::dataplane
