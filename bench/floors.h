// What a remote fault cannot be faster than, measured with nothing of the coherence protocol in the way: a
// fault of this process's own memory, a page that is copied and mapped, a cache line to the other core and
// back. The floors that need a wire are in wire_floors.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "bench/samples.h"
#include "fault/fault_thread.h"
#include "fault/inline_faults.h"
#include "fault/region_memory.h"

namespace pagewire::bench {

// A cache line's round trip between two of `cores`: two pinned threads hand a counter to each other. The
// median of the means of short batches, in ns; absent if there is one core only. Some 2 ms.
std::optional<std::uint64_t> measure_line_round_trip_ns(std::span<const std::size_t> cores);

// Away from where nodes map their regions; each floor has its own range.
inline constexpr std::uintptr_t kThreadFloorBase = 0x1000'0000'0000;
inline constexpr std::uintptr_t kPinnedFloorBase = 0x1100'0000'0000;
inline constexpr std::uintptr_t kInlineFloorBase = 0x1200'0000'0000;
inline constexpr std::uintptr_t kRemoteFloorBase = 0x1300'0000'0000;
inline constexpr std::uintptr_t kScanFloorBase = 0x1400'0000'0000;

// Touches `count` pages from `first` on, one after the other, none mapped before, and adds all but the first
// `warm_up` times.
void touch_pages(fault::RegionMemory& memory, std::size_t first, std::size_t count, std::size_t warm_up,
                 Samples& samples);

// A page of local memory that is not mapped: its thread faults, the kernel wakes a fault thread that sleeps
// in poll(2), that one maps the page with UFFDIO_CONTINUE, the kernel wakes the first. The fault thread runs
// wherever the thread may that constructs this. The classes are those of a region.
class LocalThreadFaults final : private fault::FaultSink {
 public:
  LocalThreadFaults(std::uintptr_t base, std::size_t page_count);  // throws SetupError
  ~LocalThreadFaults() override;
  LocalThreadFaults(const LocalThreadFaults&) = delete;
  LocalThreadFaults& operator=(const LocalThreadFaults&) = delete;

  fault::RegionMemory& memory() { return memory_; }

 private:
  void on_faults(std::span<const fault::Fault> faults) override;

  fault::RegionMemory memory_;
  fault::FaultThread fault_thread_;
};

// The same with inline delivery: the handler of the faulting thread maps the page.
class LocalInlineFaults final : private fault::InlineSink {
 public:
  explicit LocalInlineFaults(std::size_t page_count);  // throws SetupError

  fault::RegionMemory& memory() { return memory_; }

 private:
  bool on_inline_fault(const fault::Fault& fault, fault::Interrupted& interrupted) noexcept override;

  fault::RegionMemory memory_;
  fault::InlineFaults faults_;
};

// What a scan cannot be faster than if each byte is copied once from another process's memory: pages copied
// into the service view, mapped many in one call, and summed. No fault, no frame.
class LocalScan {
 public:
  LocalScan();  // throws SetupError
  // Adds the time of a page, on the average of each batch.
  void measure(Samples& samples);

 private:
  fault::RegionMemory memory_;
  std::vector<std::uint64_t> source_;
  std::size_t next_ = 0;  // page
};

}  // namespace pagewire::bench
