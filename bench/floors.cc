// Floors within one process; see floors.h.
#include "bench/floors.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "bench/pages.h"
#include "bench/patience.h"
#include "bench/pinning.h"
#include "pagewire/error.h"

namespace pagewire::bench {

namespace {

// More than the caches have, as in a scan; a measurement goes on where the last one ended.
constexpr std::size_t kScanPages = 16'384;
constexpr std::size_t kScanPagesAtOnce = 2'048;
constexpr std::size_t kScanBatch = 64;

void wait_for(const std::atomic<std::uint64_t>& line, std::uint64_t value) {
  Patience patience;
  while (line.load(std::memory_order_acquire) != value) patience.wait();
}

Pages pages_of(const fault::RegionMemory& memory) {
  return Pages(
      {reinterpret_cast<std::uint64_t*>(memory.application_view()), memory.bytes() / sizeof(std::uint64_t)});
}

}  // namespace

std::optional<std::uint64_t> measure_line_round_trip_ns(std::span<const std::size_t> cores) {
  constexpr std::size_t kBatches = 50;
  constexpr std::uint64_t kTripsPerBatch = 100;
  if (cores.size() < 2) return std::nullopt;
  alignas(64) std::atomic<std::uint64_t> line{0};
  Samples samples(kBatches);
  std::thread there([&] {
    pin_this_thread(cores[1]);
    for (std::uint64_t trip = 0; trip < kBatches * kTripsPerBatch; ++trip) {
      wait_for(line, 2 * trip + 1);
      line.store(2 * trip + 2, std::memory_order_release);
    }
  });
  std::thread here([&] {
    pin_this_thread(cores[0]);
    std::uint64_t trip = 0;
    for (std::size_t batch = 0; batch < kBatches; ++batch) {
      const std::uint64_t start_ns = now_ns();
      for (std::uint64_t i = 0; i < kTripsPerBatch; ++i, ++trip) {
        line.store(2 * trip + 1, std::memory_order_release);
        wait_for(line, 2 * trip + 2);
      }
      samples.add((now_ns() - start_ns) / kTripsPerBatch);
    }
  });
  here.join();
  there.join();
  return samples.quantiles().p50_ns;
}

void touch_pages(fault::RegionMemory& memory, std::size_t first, std::size_t count, std::size_t warm_up,
                 Samples& samples) {
  const Pages pages = pages_of(memory);
  memory.zap(first, count);
  for (std::size_t page = first; page < first + count; ++page) {
    const std::uint64_t start_ns = now_ns();
    static_cast<void>(pages.load(page));
    const std::uint64_t took_ns = now_ns() - start_ns;
    if (page >= first + warm_up) samples.add(took_ns);
  }
}

LocalThreadFaults::LocalThreadFaults(std::uintptr_t base, std::size_t page_count)
    : memory_("local-thread-floor", base, page_count * fault::kPageBytes, fault::KernelFaults::kAuto),
      fault_thread_(*this) {
  fault_thread_.add(0, memory_);
}

LocalThreadFaults::~LocalThreadFaults() { fault_thread_.remove(0); }

void LocalThreadFaults::on_faults(std::span<const fault::Fault> faults) {
  for (const fault::Fault& fault : faults) memory_.map_read(fault.page);
}

LocalInlineFaults::LocalInlineFaults(std::size_t page_count)
    : memory_("local-inline-floor", kInlineFloorBase, page_count * fault::kPageBytes,
              fault::KernelFaults::kOff, fault::Delivery::kInline),
      faults_(0, memory_, *this) {}

bool LocalInlineFaults::on_inline_fault(const fault::Fault& fault,
                                        fault::Interrupted& /*interrupted*/) noexcept {
  memory_.map_read(fault.page);
  return true;
}

LocalScan::LocalScan()
    : memory_("scan-floor", kScanFloorBase, kScanPages * fault::kPageBytes, fault::KernelFaults::kAuto),
      source_(kScanPages * kWordsPerPage, 1) {
  Samples discarded;  // the first use of the service view's pages is a fault of the kernel's
  do {
    measure(discarded);
  } while (next_ != 0);
}

void LocalScan::measure(Samples& samples) {
  const Pages pages = pages_of(memory_);
  const std::size_t end = next_ + kScanPagesAtOnce;
  memory_.zap(next_, kScanPagesAtOnce);
  std::uint64_t sum = 0;
  for (std::size_t first = next_; first < end; first += kScanBatch) {
    const std::uint64_t start_ns = now_ns();
    std::memcpy(memory_.service_view() + first * kPageBytes, source_.data() + first * kWordsPerPage,
                kScanBatch * kPageBytes);
    memory_.map_read(first, kScanBatch);
    for (std::size_t page = first; page < first + kScanBatch; ++page) {
      for (const std::uint64_t word : pages.page(page)) sum += word;
    }
    samples.add((now_ns() - start_ns) / kScanBatch);
  }
  next_ = end % kScanPages;
  if (sum != kScanPagesAtOnce * kWordsPerPage)
    throw Error("the floor of scan", "its sum is wrong", "This is a defect of the bench: report it");
}

}  // namespace pagewire::bench
