#include "dataplane/scan_detector.h"

#include <algorithm>
#include <cstdlib>

namespace pagewire::dataplane {

namespace {
constexpr std::uint32_t kWrongMax = 4 * ScanDetector::kWindowMax;
}  // namespace

Ahead ScanDetector::on_fault(std::uint32_t page) {
  ++faults_;
  for (Scan& scan : scans_) {
    if (scan.used != 0 && scan.window != 0 && is_within(scan, page)) return go_on(scan, page);
  }
  // The nearest fault before that could be of the same scan.
  Scan* nearest = nullptr;
  std::int64_t step = 0;
  for (Scan& scan : scans_) {
    const std::int64_t distance = std::int64_t{page} - scan.last;
    if (scan.used == 0 || distance == 0 || std::abs(distance) > kStrideMax) continue;
    if (nearest == nullptr || std::abs(distance) < std::abs(step)) {
      nearest = &scan;
      step = distance;
    }
  }
  if (nearest == nullptr) {
    Scan& forgotten = *std::ranges::min_element(scans_, {}, &Scan::used);
    forgotten = Scan{.last = page, .stride = 0, .confirmed = 0, .window = 0, .next = 0, .used = faults_};
    return {};
  }
  Scan& scan = *nearest;
  scan.used = faults_;
  scan.last = page;
  scan.confirmed = step == scan.stride ? scan.confirmed + 1 : 1;
  scan.stride = static_cast<std::int32_t>(step);
  scan.window = 0;
  const std::uint32_t needed = wrong_ > kWrongMax / 2 ? kConfirmationsWhenWrong : kConfirmations;
  if (scan.confirmed < needed) return {};
  scan.window = kWindowMin;
  scan.next = std::int64_t{page} + step;
  return ask(scan, scan.window);
}

// True if the page is one that was asked for and not reached yet, or the one after them.
bool ScanDetector::is_within(const Scan& scan, std::uint32_t page) const {
  const std::int64_t distance = std::int64_t{page} - scan.last;
  if (distance % scan.stride != 0) return false;
  const std::int64_t steps = distance / scan.stride;
  return steps > 0 && steps <= (scan.next - scan.last) / scan.stride;
}

Ahead ScanDetector::go_on(Scan& scan, std::uint32_t page) {
  scan.used = faults_;
  scan.last = page;
  if (scan.next == page) scan.next += scan.stride;  // the reader was faster than what was asked for
  scan.window = std::min(2 * scan.window, kWindowMax);
  const auto ahead = static_cast<std::uint32_t>((scan.next - page) / scan.stride - 1);
  // In portions, so that requests travel and are answered together.
  if (ahead > scan.window - scan.window / 4) return {};
  return ask(scan, scan.window - ahead);
}

Ahead ScanDetector::ask(Scan& scan, std::uint32_t count) {
  const std::int64_t room = scan.stride > 0 ? (std::int64_t{page_count_} - 1 - scan.next) / scan.stride + 1
                                            : scan.next / -std::int64_t{scan.stride} + 1;
  const bool outside = scan.next < 0 || scan.next >= std::int64_t{page_count_};
  const auto fitting = outside ? 0 : static_cast<std::uint32_t>(std::min<std::int64_t>(count, room));
  const Ahead ahead{.first = static_cast<std::uint32_t>(scan.next), .stride = scan.stride, .count = fitting};
  scan.next += std::int64_t{scan.stride} * fitting;
  return fitting == 0 ? Ahead{} : ahead;
}

void ScanDetector::useful(std::uint32_t count) { wrong_ -= std::min(wrong_, count); }
void ScanDetector::useless(std::uint32_t count) { wrong_ = std::min(wrong_ + count, kWrongMax); }

}  // namespace pagewire::dataplane
