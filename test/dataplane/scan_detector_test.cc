// Scans are seen and asked ahead of, page by page and without gaps; what is no scan costs next to nothing.
#include "dataplane/scan_detector.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace pagewire::dataplane {
namespace {

constexpr std::uint32_t kManyPages = 1'000'000;

// The pages of one answer, in order.
std::vector<std::int64_t> pages_of(const Ahead& ahead) {
  std::vector<std::int64_t> pages;
  for (std::uint32_t i = 0; i < ahead.count; ++i)
    pages.push_back(std::int64_t{ahead.first} + std::int64_t{ahead.stride} * i);
  return pages;
}

// Faults on each page of an arithmetic sequence, and keeps what was asked for.
class Reader {
 public:
  Reader(ScanDetector& detector, std::int64_t first, std::int64_t stride)
      : detector_(detector), next_(first), stride_(stride) {}

  Ahead step() {
    at_ = next_;
    next_ += stride_;
    const Ahead ahead = detector_.on_fault(static_cast<std::uint32_t>(at_));
    for (const std::int64_t page : pages_of(ahead)) asked.push_back(page);
    return ahead;
  }
  void steps(int count) {
    for (int i = 0; i < count; ++i) step();
  }
  std::int64_t at() const { return at_; }
  // Pages that were asked for and not reached yet.
  std::int64_t lead() const { return asked.empty() ? 0 : (asked.back() - at_) / stride_; }

  std::vector<std::int64_t> asked;

 private:
  ScanDetector& detector_;
  std::int64_t at_ = 0;
  std::int64_t next_;
  std::int64_t stride_;
};

// From the page after the one at which the scan was seen on: each page once, none left out.
void expect_whole(const Reader& reader, std::int64_t from, std::int64_t stride) {
  ASSERT_FALSE(reader.asked.empty()) << "stride " << stride;
  for (std::size_t i = 0; i < reader.asked.size(); ++i) {
    ASSERT_EQ(reader.asked[i], from + stride * static_cast<std::int64_t>(i)) << "stride " << stride;
  }
}

TEST(ScanDetector, forward__asks_at_the_third_page) {
  ScanDetector detector(kManyPages);
  EXPECT_EQ(detector.on_fault(10).count, 0U);
  EXPECT_EQ(detector.on_fault(11).count, 0U);
  const Ahead ahead = detector.on_fault(12);
  EXPECT_EQ(ahead.first, 13U);
  EXPECT_EQ(ahead.stride, 1);
  EXPECT_EQ(ahead.count, ScanDetector::kWindowMin);
}

TEST(ScanDetector, every_stride_forward_and_backward__each_page_once) {
  for (std::int64_t stride = 1; stride <= ScanDetector::kStrideMax; ++stride) {
    for (const std::int64_t step : {stride, -stride}) {
      ScanDetector detector(kManyPages);
      Reader reader(detector, 500'000, step);
      reader.steps(1'000);
      expect_whole(reader, 500'000 + 3 * step, step);
      EXPECT_GT(reader.lead(), ScanDetector::kWindowMax / 2) << "stride " << step;
      EXPECT_LE(reader.lead(), ScanDetector::kWindowMax) << "stride " << step;
    }
  }
}

TEST(ScanDetector, wider_strides__ask_for_nothing) {
  for (const std::int64_t stride : {65, 66, 100, 128, 1'000}) {
    for (const std::int64_t step : {stride, -stride}) {
      ScanDetector detector(kManyPages);
      Reader reader(detector, 500'000, step);
      reader.steps(400);
      EXPECT_TRUE(reader.asked.empty()) << "stride " << step;
    }
  }
}

// Such as threads that load from one page at the same time.
TEST(ScanDetector, the_same_page_again__is_no_scan_and_ends_none) {
  ScanDetector detector(kManyPages);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(detector.on_fault(7).count, 0U);
  Reader reader(detector, 100, 1);
  std::set<std::int64_t> asked;
  for (int i = 0; i < 300; ++i) {
    reader.step();
    for (const std::int64_t page : pages_of(detector.on_fault(static_cast<std::uint32_t>(reader.at())))) {
      reader.asked.push_back(page);
    }
  }
  for (const std::int64_t page : reader.asked) asked.insert(page);
  EXPECT_EQ(*asked.begin(), 103);
  EXPECT_EQ(*asked.rbegin(), 103 + static_cast<std::int64_t>(asked.size()) - 1) << "a gap";
  EXPECT_GT(*asked.rbegin(), 400);
  EXPECT_LE(reader.asked.size(), 2 * asked.size()) << "for two threads, twice at most";
}

TEST(ScanDetector, interleaved__several_scans_do_not_disturb_each_other) {
  const std::vector<std::vector<std::int64_t>> stride_sets = {
      {1, 1}, {1, -1}, {3, -7}, {64, 2}, {1, -2, 5, 64}};
  for (const auto& strides : stride_sets) {
    ScanDetector detector(kManyPages);
    std::vector<Reader> readers;
    for (std::size_t i = 0; i < strides.size(); ++i)
      readers.emplace_back(detector, 100'000 + 200'000 * static_cast<std::int64_t>(i), strides[i]);
    for (int i = 0; i < 500; ++i) {
      for (Reader& reader : readers) reader.step();
    }
    for (std::size_t i = 0; i < strides.size(); ++i) {
      expect_whole(readers[i], 100'000 + 200'000 * static_cast<std::int64_t>(i) + 3 * strides[i], strides[i]);
      EXPECT_GT(readers[i].lead(), ScanDetector::kWindowMax / 2);
    }
  }
}

TEST(ScanDetector, interleaved__a_scan_goes_on_after_single_faults_elsewhere) {
  ScanDetector detector(kManyPages);
  Reader reader(detector, 1'000, 1);
  std::mt19937_64 random(4'711);
  for (int i = 0; i < 300; ++i) {
    reader.step();
    if (i % 3 == 2) detector.on_fault(static_cast<std::uint32_t>(100'000 + random() % 800'000));
  }
  expect_whole(reader, 1'003, 1);
}

TEST(ScanDetector, window__grows_and_is_topped_up_in_portions) {
  ScanDetector detector(kManyPages);
  Reader reader(detector, 0, 1);
  std::vector<std::uint32_t> portions;
  std::int64_t lead_max = 0;
  for (int i = 0; i < 2'000; ++i) {
    const Ahead ahead = reader.step();
    if (ahead.count > 0) portions.push_back(ahead.count);
    lead_max = std::max(lead_max, reader.lead());
  }
  EXPECT_EQ(portions.front(), ScanDetector::kWindowMin);
  EXPECT_EQ(lead_max, ScanDetector::kWindowMax);
  // Grown in a few steps, no faster than twice the window each.
  std::uint32_t asked = portions[0];
  for (std::size_t i = 1; i < 5; ++i) {
    EXPECT_LE(portions[i], asked + 1) << i;
    asked += portions[i];
  }
  EXPECT_GE(asked, ScanDetector::kWindowMax);
  for (std::size_t i = 5; i < portions.size(); ++i) {
    EXPECT_GE(portions[i], ScanDetector::kWindowMax / 4) << i;
    EXPECT_LE(portions[i], ScanDetector::kWindowMax / 2) << i;
  }
  EXPECT_LT(portions.size(), 2'000U / (ScanDetector::kWindowMax / 4) + 8);
}

// Pages that came ahead are mapped several at a time, so that most of them never fault.
TEST(ScanDetector, a_reader_that_faults_on_few_of_the_pages__is_followed) {
  for (const std::int64_t stride : {1, -1, 4}) {
    ScanDetector detector(kManyPages);
    Reader reader(detector, 500'000, stride);
    reader.steps(3);
    std::int64_t page = 500'000 + 3 * stride;
    for (int i = 0; i < 200; ++i) {
      ASSERT_FALSE(reader.asked.empty());
      const std::int64_t left = (reader.asked.back() - page) / stride;
      for (const std::int64_t asked : pages_of(detector.on_fault(static_cast<std::uint32_t>(page))))
        reader.asked.push_back(asked);
      page +=
          stride * std::min<std::int64_t>(32, left + 1);  // the neighbours are mapped as far as they are here
    }
    expect_whole(reader, 500'000 + 3 * stride, stride);
    EXPECT_GT(std::abs(page - 500'000), 3'000 * std::abs(stride));
  }
}

// What a fast reader does to a slow network: it arrives where nothing was asked for yet.
TEST(ScanDetector, a_reader_at_the_end_of_the_window__is_followed) {
  ScanDetector detector(kManyPages);
  Reader reader(detector, 0, 1);
  reader.steps(3);
  for (int i = 0; i < 50; ++i) {
    const std::int64_t beyond = reader.asked.back() + 1;
    const Ahead ahead = detector.on_fault(static_cast<std::uint32_t>(beyond));
    ASSERT_GT(ahead.count, 0U);
    EXPECT_EQ(ahead.first, beyond + 1) << "it has that page's fault already";
    for (const std::int64_t page : pages_of(ahead)) reader.asked.push_back(page);
  }
}

TEST(ScanDetector, bounds__nothing_outside_of_the_region) {
  for (const std::uint32_t page_count : {1U, 2U, 3U, 4U, 5U, 63U, 64U, 65U, 100U, 1'000U}) {
    for (std::int64_t stride = 1; stride <= ScanDetector::kStrideMax; ++stride) {
      for (const bool backward : {false, true}) {
        ScanDetector detector(page_count);
        std::set<std::int64_t> asked;
        std::int64_t page = backward ? std::int64_t{page_count} - 1 : 0;
        std::vector<std::int64_t> touched;
        for (; page >= 0 && page < std::int64_t{page_count}; page += backward ? -stride : stride) {
          touched.push_back(page);
          for (const std::int64_t one : pages_of(detector.on_fault(static_cast<std::uint32_t>(page)))) {
            ASSERT_GE(one, 0) << page_count << " pages, stride " << stride;
            ASSERT_LT(one, page_count) << page_count << " pages, stride " << stride;
            ASSERT_TRUE(asked.insert(one).second) << "twice";
          }
        }
        // All that the scan reached after it was seen, up to the very last one.
        const std::size_t expected = touched.size() > 3 ? touched.size() - 3 : 0;
        EXPECT_EQ(asked.size(), expected) << page_count << " pages, stride " << stride;
      }
    }
  }
}

// Faults at random, each page that was asked for being useless but for chance. The share of pages asked for
// in vain is what such a service pays.
double share_in_vain(std::uint32_t pages, std::uint64_t seed) {
  constexpr int kFaults = 20'000;
  ScanDetector detector(pages);
  std::mt19937_64 random(seed);
  std::uint64_t asked = 0;
  for (int i = 0; i < kFaults; ++i) {
    const Ahead ahead = detector.on_fault(static_cast<std::uint32_t>(random() % pages));
    asked += ahead.count;
    detector.useless(ahead.count);
  }
  return static_cast<double>(asked) / kFaults;
}

TEST(ScanDetector, random_faults__ask_for_next_to_nothing) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_LE(share_in_vain(100'000, seed), 0.001) << "seed " << seed;
    EXPECT_LE(share_in_vain(2'000, seed), 0.02) << "seed " << seed;
    EXPECT_LE(share_in_vain(64, seed), 0.10) << "seed " << seed;  // hardly any pair is not within a stride
  }
}

// Faults until a new scan far away is asked ahead of; 0: not within 100.
int faults_until_asked(ScanDetector& detector, std::int64_t from) {
  Reader reader(detector, from, 1);
  for (int i = 1; i <= 100; ++i) {
    if (reader.step().count > 0) return i;
  }
  return 0;
}

TEST(ScanDetector, useless__makes_it_ask_later_and_useful_forgives) {
  ScanDetector detector(kManyPages);
  EXPECT_EQ(faults_until_asked(detector, 10'000), 1 + static_cast<int>(ScanDetector::kConfirmations));
  detector.useless(100);
  EXPECT_EQ(faults_until_asked(detector, 20'000), 1 + static_cast<int>(ScanDetector::kConfirmations))
      << "a window that was not used up is no reason yet";
  detector.useless(10'000);
  EXPECT_EQ(faults_until_asked(detector, 30'000),
            1 + static_cast<int>(ScanDetector::kConfirmationsWhenWrong));
  detector.useful(10'000);
  EXPECT_EQ(faults_until_asked(detector, 40'000), 1 + static_cast<int>(ScanDetector::kConfirmations));
  detector.useless(1'000'000'000);  // long ago wrong is forgiven as fast
  detector.useful(ScanDetector::kWindowMax * 4);
  EXPECT_EQ(faults_until_asked(detector, 50'000), 1 + static_cast<int>(ScanDetector::kConfirmations));
}

}  // namespace
}  // namespace pagewire::dataplane
